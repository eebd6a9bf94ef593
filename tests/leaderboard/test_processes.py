"""State of the processes: alone, and as one of two."""

import os
import socket
import subprocess
import sys

from leaderboard.processes import join_processes

PRINT_STATE = """
from leaderboard.processes import join_processes
state = join_processes()
print(state.is_main_process, state.process_index, state.num_processes)
state.destroy_process_group()
"""


def test_single_process_is_the_main_one() -> None:
    state = join_processes()
    assert state.is_main_process
    assert state.num_processes == 1


def test_one_of_two_is_the_main_one() -> None:
    """Two processes with the variables that ``accelerate launch`` sets, without a GPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "CUDA_VISIBLE_DEVICES": ""}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PRINT_STATE],
            env=os.environ
            | place
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0].split() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert outputs == [["True", "0", "2"], ["False", "1", "2"]]
