"use strict";
// Sorts and filters the table, shows details, keeps the state in the address. All text is inserted
// as text nodes.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.querySelector(".leaderboard");
  const form = document.querySelector(".filters");
  const status = form.querySelector(".status");
  const byKey = new Map(data.rows.map((row, index) => [row.key, { ...row, index }]));
  const rows = [...table.querySelectorAll(".row")].map((element) => ({
    ...byKey.get(element.dataset.key), element, details: null,
  }));
  const boards = [...new Set(data.rows.map((row) => row.board))];
  const FILTERS = ["finetuning", "precision"];
  const initial = () => ({
    board: boards[0], finetuning: new Set(), precision: new Set(), q: "",
    sort: null, descending: false, reported: false, open: new Set(),
  });
  let state = initial();

  // --- the state and the address

  function read() {
    const parameters = new URLSearchParams(location.hash.slice(1));
    state = initial();
    if (parameters.has("corpus") && ["", ...boards].includes(parameters.get("corpus"))) {
      state.board = parameters.get("corpus");
    }
    for (const filter of FILTERS) {
      state[filter] = new Set(parameters.getAll(filter).filter((value) => data.rows.some((row) => row[filter] === value)));
    }
    state.q = parameters.get("q") ?? "";
    const [column, direction] = (parameters.get("sort") ?? "").split(".");
    if (header(column)) Object.assign(state, { sort: column, descending: direction === "descending" });
    state.reported = parameters.has("reported");
    state.open = new Set(parameters.getAll("open").filter((key) => byKey.has(key)));
  }

  function write() {
    const parameters = new URLSearchParams();
    if (state.board !== boards[0]) parameters.set("corpus", state.board);
    for (const filter of FILTERS) for (const value of state[filter]) parameters.append(filter, value);
    if (state.q) parameters.set("q", state.q);
    if (state.sort) parameters.set("sort", `${state.sort}.${state.descending ? "descending" : "ascending"}`);
    if (state.reported) parameters.set("reported", "");
    for (const key of state.open) parameters.append("open", key);
    history.replaceState(null, "", `#${parameters}`);
  }

  // --- from the state to the page

  function show() {
    sort();
    const shown = rows.filter((row) => {
      const visible = matches(row);
      row.element.hidden = !visible;
      open(row, visible && state.open.has(row.key));
      return visible;
    });
    const all = rows.filter((row) => inBoard(row) && (row.kind !== "reported" || state.reported));
    for (const body of table.tBodies) {
      body.hidden = body.classList.contains("reported") && !state.reported;
    }
    for (const figure of document.querySelectorAll("figure")) {
      figure.hidden = state.board !== "" && figure.dataset.board !== state.board;
    }
    table.classList.toggle("one", state.board !== "");
    for (const button of document.querySelectorAll("[data-board][aria-pressed]")) {
      press(button, button.dataset.board === state.board);
    }
    for (const button of form.querySelectorAll("[data-filter]")) {
      const { filter } = button.dataset;
      press(button, state[filter].has(button.value));
      button.hidden = !state[filter].has(button.value) && !all.some((row) => row[filter] === button.value);
    }
    for (const button of form.querySelectorAll("[data-switch]")) press(button, state.reported);
    if (form.q.value !== state.q) form.q.value = state.q;
    status.textContent = `${shown.length} of ${all.length} rows`;
    form.querySelector(".reset").hidden = !(state.q || state.sort || FILTERS.some((f) => state[f].size));
  }

  const inBoard = (row) => state.board === "" || row.board === state.board;

  function matches(row) {
    const text = row.method.toLowerCase().includes(state.q.trim().toLowerCase());
    // references belong to full finetuning and to LoRA
    const finetuning = row.kind === "reference" || passes(row, "finetuning");
    const asked = row.kind !== "reported" || state.reported;
    return inBoard(row) && text && finetuning && passes(row, "precision") && asked;
  }

  const passes = (row, filter) => !state[filter].size || state[filter].has(row[filter]);
  const press = (button, pressed) => button.setAttribute("aria-pressed", String(pressed));

  // --- sorting, within references, methods and published rows

  function sort() {
    const sign = state.descending ? -1 : 1;
    const compare = (a, b) => {
      if (!state.sort) return a.index - b.index;
      const [x, y] = [a.sort[state.sort], b.sort[state.sort]];
      if (x === null || y === null) return (x === null) - (y === null) || a.index - b.index;
      return (x < y ? -sign : x > y ? sign : 0) || a.index - b.index;
    };
    const order = `${state.sort} ${sign}`;
    if (order === table.dataset.order) return;
    table.dataset.order = order;
    rows.sort(compare);
    for (const body of table.tBodies) {
      const elements = rows.filter((row) => body.classList.contains(row.kind))
        .flatMap((row) => (row.details ? [row.element, row.details] : [row.element]));
      body.append(...elements);
    }
    table.classList.toggle("sorted", state.sort !== null);
    for (const button of table.tHead.querySelectorAll("button")) {
      const cell = button.closest("th");
      if (button.dataset.sort !== state.sort) cell.removeAttribute("aria-sort");
      else cell.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    }
  }

  const header = (column) => [...table.tHead.querySelectorAll("button")]
    .find((button) => button.dataset.sort === column);

  // --- details of a row, created when it is first opened

  function open(row, opened) {
    if (!opened && !row.details) return;
    const button = row.element.querySelector(".open");
    if (opened && !row.details) {
      row.details = element("tr", { className: "details", id: `details-${row.key}` });
      const cell = element("td", { colSpan: table.tHead.rows[0].cells.length });
      const panel = element("div", { className: "panel" });
      for (const index of row.sections) {
        const content = data.sections[index];
        if (!content.answers) panel.append(section(content));
        else if (panel.lastChild?.className !== "answers") {
          panel.append(element("div", { className: "answers" }, answerList(content)));
        } else panel.lastChild.append(answerList(content));
      }
      cell.append(panel);
      row.details.append(cell);
      row.element.after(row.details);
      button.setAttribute("aria-controls", row.details.id);
    }
    row.details.hidden = !opened;
    button.setAttribute("aria-expanded", String(opened));
  }

  function element(name, properties = {}, ...children) {
    const node = Object.assign(document.createElement(name), properties);
    node.append(...children);
    return node;
  }

  function section({ title, remarks, facts, table: lines, note, across }) {
    const node = element("section", { className: across ? "across" : "" });
    if (title) node.append(element("h3", { textContent: title }));
    if (remarks) {
      node.className = "remarks";
      node.append(element("ul", {}, ...remarks.map((text) => element("li", {}, text))));
    }
    if (facts) {
      const parts = facts.flatMap(([label, text]) => [element("dt", {}, label), element("dd", {}, text)]);
      node.append(element("dl", { className: "facts" }, ...parts));
    }
    if (lines) node.append(element("div", { className: "scroll" }, grid(lines)));
    if (note) node.append(element("p", { className: "note" }, note));
    return node;
  }

  function grid([head, ...lines]) {
    const cells = (names, line) => line.map((text, n) => element(names[Math.min(n, 1)], {}, text));
    return element("table", {},
      element("thead", {}, element("tr", {}, ...cells(["th", "th"], head))),
      element("tbody", {}, ...lines.map((line) => element("tr", {}, ...cells(["th", "td"], line)))));
  }

  function answerList({ title, answers }) {
    const items = answers.map((answer) => {
      const [prompt, reference, response, score] = ["prompt", "reference", "response", "score"]
        .map((part) => data.texts[answer[part]]);
      const same = common(words(reference), words(response));
      const parts = [
        ["prompt", [prompt]], ["reference", marked(reference, same[0])],
        ["answer", marked(response, same[1])], ["ROUGE-L", [score]],
      ];
      return element("div", { className: "answer" }, element("dl", {}, ...parts.flatMap(
        ([label, nodes]) => [element("dt", {}, label), element("dd", {}, ...nodes)])));
    });
    const scores = answers.map((answer) => data.texts[answer.score]).join(", ");
    const summary = element("summary", {}, title, element("span", {}, ` ${scores}`));
    return element("details", {}, summary, ...items);
  }

  // --- longest common subsequence of words of an answer and its reference, as in ROUGE-L

  const words = (text) => [...text.toLowerCase().matchAll(/[a-z0-9]+/g)];

  function common(left, right) {
    const length = Array.from({ length: left.length + 1 }, () => new Uint16Array(right.length + 1));
    for (let i = left.length - 1; i >= 0; i--) {
      for (let j = right.length - 1; j >= 0; j--) {
        length[i][j] = left[i][0] === right[j][0] ? length[i + 1][j + 1] + 1
          : Math.max(length[i + 1][j], length[i][j + 1]);
      }
    }
    const shared = [[], []];
    for (let i = 0, j = 0; i < left.length && j < right.length;) {
      if (left[i][0] === right[j][0]) { shared[0].push(left[i++]); shared[1].push(right[j++]); }
      else if (length[i + 1][j] >= length[i][j + 1]) i++;
      else j++;
    }
    return shared;
  }

  function marked(text, matches) {
    const nodes = [];
    let end = 0;
    for (const match of matches) {
      nodes.push(text.slice(end, match.index));
      end = match.index + match[0].length;
      nodes.push(element("mark", {}, text.slice(match.index, end)));
    }
    return [...nodes, text.slice(end)];
  }

  // --- events

  function change(update) {
    update();
    show();
    write();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { board, filter, sort: column, first } = button.dataset;
    if (board !== undefined) change(() => { state.board = board; });
    else if (filter) change(() => toggle(state[filter], button.value));
    else if (button.dataset.switch) change(() => { state.reported = !state.reported; });
    else if (button.matches(".open")) change(() => toggle(state.open, button.closest("tr").dataset.key));
    else if (button.matches(".reset")) {
      change(() => { state = { ...initial(), board: state.board, reported: state.reported, open: state.open }; });
    } else if (column) change(() => turn(column, first === "descending"));
  });
  form.addEventListener("input", () => change(() => { state.q = form.q.value; }));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => { read(); show(); });

  const toggle = (set, value) => set.delete(value) || set.add(value);

  // best first, then reversed, then the original order
  function turn(column, descending) {
    if (state.sort !== column) Object.assign(state, { sort: column, descending });
    else if (state.descending === descending) state.descending = !descending;
    else state.sort = null;
  }

  form.hidden = false;
  read();
  show();
})();
