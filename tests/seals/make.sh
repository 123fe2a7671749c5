#!/bin/bash
# Makes the signatures and public keys of this directory anew: `make.sh MODEL_SIGNING`, where MODEL_SIGNING is the
# program of the Python package `model-signing`. The private keys are thrown away.
set -euo pipefail
cd "$(dirname "$0")"
sign=$1
keys=$(mktemp -d)
trap 'rm -rf "$keys"' EXIT

for curve in P-256 P-384 P-521 secp256k1; do
    openssl genpkey -algorithm EC -pkeyopt "ec_paramgen_curve:$curve" -out "$keys/$curve.key" 2>/dev/null
    openssl pkey -in "$keys/$curve.key" -pubout -out "$curve.pub"
done
openssl genrsa -out "$keys/rsa.key" 2048 2>/dev/null
openssl pkey -in "$keys/rsa.key" -pubout -out rsa.pub
for curve in P-256 P-384; do
    $sign sign key package --private_key "$keys/$curve.key" --signature "$curve.sig" >/dev/null
done

# A root, an authority beneath it, and two signers that the authority knows.
days=(-days 36500 -sha256)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout "$keys/root.key" -out root.pem \
    -subj "/CN=Example root" "${days[@]}" -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" 2>/dev/null
issue() { # name, issuer, extensions, subject
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$keys/$1.key" -out "$keys/$1.csr" -subj "$4" 2>/dev/null
    local issuer=$2.pem
    [ -f "$issuer" ] || issuer=$keys/$2.pem
    openssl x509 -req -in "$keys/$1.csr" -CA "$issuer" -CAkey "$keys/$2.key" -CAcreateserial -CAserial "$keys/serial" \
        -out "$keys/$1.pem" "${days[@]}" -extfile <(printf '%b' "$3") 2>/dev/null
}
issue authority root "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n" "/CN=Example authority"
signer="basicConstraints=CA:FALSE\nsubjectAltName=email:ci@example.com,URI:https://ci.example.com/release\n"
issue signer authority "${signer}keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n" "/CN=Release pipeline"
issue server authority "${signer}keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n" "/CN=Release pipeline"
issue useless authority "${signer}keyUsage=critical,keyAgreement\n" "/CN=Release pipeline"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$keys/other.key" -out other-root.pem \
    -subj "/CN=Another root" "${days[@]}" -addext "basicConstraints=critical,CA:TRUE" 2>/dev/null
for name in signer server useless; do
    $sign sign certificate package --private_key "$keys/$name.key" --signing_certificate "$keys/$name.pem" \
        --certificate_chain "$keys/authority.pem" --signature "$name.sig" >/dev/null
done
