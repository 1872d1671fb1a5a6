# Two images from one file:
#   docker build -t app-offload .                    full: glibc, sh and dumb-init for EdgeX's secure stack, and ONNX Runtime
#   docker build --target lite -t app-offload:lite . lite: without the consumer and the engines for ONNX, static, from scratch
# In both, offloadctl is a link to app-offload: under that name the program is the tool.
# For several platforms: docker buildx build --platform linux/amd64,linux/arm64 …: the compiler runs on the build
# platform and cross-compiles. Without BuildKit the target is amd64. The full image supports amd64 and arm64, as ONNX Runtime does.
# Every base image is a build argument: a mirror or another base can replace it.
ARG BUILDER_BASE=golang:1.26-bookworm
ARG FULL_BASE=debian:bookworm-slim
ARG LITE_BASE=scratch
ARG NODE_BASE=node:20-bookworm-slim

FROM --platform=${BUILDPLATFORM:-linux/amd64} ${BUILDER_BASE} AS builder
ARG VERSION=0.0.0
ARG TARGETOS
ARG TARGETARCH
ARG COMMIT=
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN mkdir -p /out/bin /out/spool /out/res /out/etc \
 && cp LICENSE /out/bin/ \
 && ln -s app-offload /out/bin/offloadctl \
 && cp -r res/configuration.yaml res/openapi.yaml res/policies /out/res/ \
 && chmod -R a+rX /out/res \
 && printf 'edgex:x:2002:2001:edgex:/:/sbin/nologin\n' > /out/etc/passwd \
 && printf 'edgex:x:2001:\n' > /out/etc/group

FROM builder AS builder-lite
ARG VERSION=0.0.0
ARG TARGETOS
ARG TARGETARCH
ARG COMMIT=
RUN GOOS=${TARGETOS} GOARCH=${TARGETARCH} make build VERSION=${VERSION} COMMIT=${COMMIT} COMMANDS=app-offload TAGS=noonnx SMALL=1 \
 && cp bin/app-offload /out/bin/

# ONNX Runtime is called through cgo, so this stage needs a C compiler for the target platform.
FROM builder AS builder-full
ARG VERSION=0.0.0
ARG TARGETOS
ARG TARGETARCH
ARG COMMIT=
RUN case "$(go env GOHOSTARCH)-${TARGETARCH:-$(go env GOHOSTARCH)}" in \
	amd64-arm64) export CC=aarch64-linux-gnu-gcc; packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;; \
	arm64-amd64) export CC=x86_64-linux-gnu-gcc; packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;; \
	*) packages="gcc libc6-dev" ;; \
	esac \
 && if ! command -v "${CC:-gcc}"; then apt-get update && apt-get install -y --no-install-recommends $packages; fi \
 && GOOS=${TARGETOS} GOARCH=${TARGETARCH} make build VERSION=${VERSION} COMMIT=${COMMIT} COMMANDS="app-offload offload-cloud" TAGS=onnxruntime \
 && cp bin/app-offload /out/bin/ \
 && cp bin/offload-cloud /out/

# The library from its npm package, for the target platform; no code of the package runs.
FROM --platform=${BUILDPLATFORM:-linux/amd64} ${NODE_BASE} AS onnxruntime
ARG TARGETARCH
WORKDIR /onnxruntime
COPY .ci/onnxruntime/package.json .ci/onnxruntime/package-lock.json .ci/onnxruntime/LICENSE ./
RUN npm ci --ignore-scripts --no-audit --no-fund \
 && case "${TARGETARCH:-amd64}" in arm64) arch=arm64 ;; *) arch=x64 ;; esac \
 && mkdir /out && cp node_modules/onnxruntime-node/bin/napi-v6/linux/$arch/libonnxruntime.so.1 /out/ \
 && cp LICENSE /out/libonnxruntime.LICENSE \
 && chmod 755 /out/*.so.1

FROM ${LITE_BASE} AS lite
COPY --from=builder-lite /out/etc/passwd /out/etc/group /etc/
COPY --from=builder-lite /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=builder-lite /out/bin/ /
COPY --from=builder-lite /out/res /res
COPY --from=builder-lite --chown=2002:2001 /out/spool /spool
USER 2002:2001
EXPOSE 59740
VOLUME /spool
ENTRYPOINT ["/app-offload"]
CMD ["-cp=consul.http://edgex-core-consul:8500", "--registry"]

FROM ${FULL_BASE} AS full
RUN command -v dumb-init >/dev/null || (apt-get update && apt-get install -y --no-install-recommends dumb-init ca-certificates && rm -rf /var/lib/apt/lists/*)
COPY --from=onnxruntime /out/ /
COPY --from=builder-full /out/bin/ /out/offload-cloud /
COPY --from=builder-full /out/res /res
COPY --from=builder-full --chown=2002:2001 /out/spool /spool
USER 2002:2001
EXPOSE 59740
VOLUME /spool
ENTRYPOINT ["/app-offload"]
CMD ["-cp=consul.http://edgex-core-consul:8500", "--registry"]
