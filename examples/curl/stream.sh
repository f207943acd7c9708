#!/usr/bin/env bash
# ./stream.sh http://127.0.0.1:8080 latents.bin: saves a latent stream, says which map decodes it, and looks into it.
#
# Without Accept-Encoding the body comes as it is. `codec-diffusers decode latents.bin -o a.png --server ...` draws it.
set -euo pipefail
server=${1:?the server, http://HOST:PORT} file=${2:?where the stream goes}

curl --silent --show-error --fail-with-body "$server/v1/images/generations" \
  --output "$file" --dump-header "$file.headers" \
  --header 'Content-Type: application/json' --header 'Accept: application/x-codec-msgpack' \
  --data '{"prompt": "a sea", "stream_format": "msgpack", "modality": "image-latents",
           "pipeline": "int8-adaptive", "size": "64x64", "steps": 2, "seed": 7}'

grep --ignore-case '^codec-latent-map:' "$file.headers"
# The header message names its fields in the clear: the first byte is a msgpack map, the first key is "type".
head --bytes 12 "$file" | od --address-radix=d --format=x1z
