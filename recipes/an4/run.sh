#!/usr/bin/env bash
# AN4 from the corpus's features to word error rates, without and with a language model:
#   bash recipes/an4/run.sh [sru.yaml | lstm.yaml | gru.yaml | qrnn.yaml | ctc.yaml] [key=value …]
# The corpus lies in the folder AN4 names, or in $SEQSRU_MIRROR/an4, or in recipes/an4/data/an4. Can be run again: what
# is done is kept, and an interrupted training goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/an4
config=${1:-sru.yaml}
run=$here/runs/${config%.yaml}
corpus=${AN4:-${SEQSRU_MIRROR:+$SEQSRU_MIRROR/an4}}
if [ ! -e "$here/$config" ] || [ "$config" = lm.yaml ]; then
    echo "expected a config in $here (sru.yaml, lstm.yaml, gru.yaml, qrnn.yaml, ctc.yaml), found '$config'; name one of these" >&2
    exit 2
fi
. recipes/install.sh plot "$here/$config" "${@:2}"

echo "== manifests of the corpus, in $here/data"
python "$here/prepare.py" "${corpus:-$here/data/an4}" "$here/data"

echo "== a language model of the training transcripts, by $here/lm.yaml"
seqsru train "$here/lm.yaml"

echo "== training by $here/$config; Ctrl-C saves, and running this again goes on"
seqsru train "$here/$config" "${@:2}"

echo "== the test, by the likeliest path of CTC"
seqsru evaluate "$run" --average 5 --json "$run/test-ctc.json"
if [ "$config" = ctc.yaml ]; then  # what was best in validation
    search=(--average 5 --beam 16) more=(--lm-weight 0.6 --lm-bonus 1.5 --lm-unknown 10)
else
    search=(--average 5 --beam 32 --decoder joint --ctc-weight 0.5) more=(--lm-weight 0.3 --lm-bonus 1.5 --lm-unknown 10)
fi
echo "== the test, searched with all that the model has"
seqsru evaluate "$run" "${search[@]}" --json "$run/test.json"
echo "== and with the language model besides"
seqsru evaluate "$run" "${search[@]}" --language-model "$here/runs/lm" "${more[@]}" --json "$run/test-lm.json"
echo "== the real-time factor, on one thread"
seqsru latency "$run" --first 50 --threads 1 --json "$run/latency.json"

echo "== comparing with what is expected"
python recipes/check.py "$here/expected.json" "$run"
