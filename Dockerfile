# Two images from one file:
#   docker build -t app-offload .                    full: glibc, sh and dumb-init, which EdgeX's secure stack needs
#   docker build --target lite -t app-offload:lite . lite: without the consumer and the engine for ONNX, static, on nothing at all
# In both, offloadctl is a second name of app-offload: the program is the tool when it is called so.
# For other machines, both at once: docker buildx build --platform linux/amd64,linux/arm64 …: the compiler runs on the machine that
# builds and compiles for the one that is named. Without BuildKit that is an amd64.
# Every base image is a build argument, so that a mirror or a base of one's own can stand in.
ARG BUILDER_BASE=golang:1.26-bookworm
ARG FULL_BASE=debian:bookworm-slim
ARG LITE_BASE=scratch

FROM --platform=${BUILDPLATFORM:-linux/amd64} ${BUILDER_BASE} AS builder
ARG VERSION=0.0.0
ARG TARGETOS
ARG TARGETARCH
ARG COMMIT=
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN GOOS=${TARGETOS} GOARCH=${TARGETARCH} make build VERSION=${VERSION} COMMIT=${COMMIT} COMMANDS="app-offload offload-cloud" \
 && mkdir -p /out/bin /out/spool /out/res /out/etc \
 && cp bin/app-offload LICENSE /out/bin/ \
 && ln -s app-offload /out/bin/offloadctl \
 && cp bin/offload-cloud /out/ \
 && cp -r res/configuration.yaml res/openapi.yaml res/policies /out/res/ \
 && chmod -R a+rX /out/res \
 && printf 'edgex:x:2002:2001:edgex:/:/sbin/nologin\n' > /out/etc/passwd \
 && printf 'edgex:x:2001:\n' > /out/etc/group

FROM builder AS builder-lite
ARG VERSION=0.0.0
ARG TARGETOS
ARG TARGETARCH
ARG COMMIT=
RUN GOOS=${TARGETOS} GOARCH=${TARGETARCH} make build VERSION=${VERSION} COMMIT=${COMMIT} COMMANDS=app-offload TAGS=noonnx \
 && cp bin/app-offload /out/bin/

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
COPY --from=builder /out/bin/ /out/offload-cloud /
COPY --from=builder /out/res /res
COPY --from=builder --chown=2002:2001 /out/spool /spool
USER 2002:2001
EXPOSE 59740
VOLUME /spool
ENTRYPOINT ["/app-offload"]
CMD ["-cp=consul.http://edgex-core-consul:8500", "--registry"]
