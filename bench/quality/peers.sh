#!/bin/sh
# Installs what quality is measured against into a folder: llm-compressor and AutoRound, each in its own virtual
# environment, and stock llama.cpp tools, built from the source distribution of llama-cpp-python. About 12 GB.
#
#     bench/quality/peers.sh FOLDER
set -eu
peers=$1
mkdir -p "$peers"

for peer in llm-compressor:llmcompressor auto-round:auto-round; do
    python3 -m venv "$peers/${peer%%:*}"
    "$peers/${peer%%:*}/bin/pip" install -q "${peer##*:}"
done

python3 -m pip download -q --no-deps --no-build-isolation --no-binary :all: -d "$peers" llama-cpp-python
tar xzf "$peers"/llama_cpp_python-*.tar.gz -C "$peers"
cmake -S "$peers"/llama_cpp_python-*/vendor/llama.cpp -B "$peers/llama.cpp" \
    -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF
cmake --build "$peers/llama.cpp" -j 2 --target llama-quantize llama-imatrix llama-perplexity
