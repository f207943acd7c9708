#!/usr/bin/env bash
# ./stream.sh http://127.0.0.1:8080 latents.bin
#
# Saves a latent stream to a file and prints the hash of its latent-space map and its first bytes. Without
# Accept-Encoding the body is not compressed. To decode it: codec-diffusers decode latents.bin -o a.png --server ...
set -euo pipefail
server=${1:?missing server address, http://HOST:PORT} file=${2:?missing output file}

curl --silent --show-error --fail-with-body "$server/v1/images/generations" \
  --output "$file" --dump-header "$file.headers" \
  --header 'Content-Type: application/json' --header 'Accept: application/x-codec-msgpack' \
  --data '{"prompt": "a sea", "stream_format": "msgpack", "modality": "image-latents",
           "pipeline": "int8-adaptive", "size": "64x64", "steps": 2, "seed": 7}'

grep --ignore-case '^codec-latent-map:' "$file.headers"
# The stream begins with the header message, a msgpack map whose first key is "type".
head --bytes 12 "$file" | od --address-radix=d --format=x1z
