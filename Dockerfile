# SPDX-License-Identifier: Apache-2.0
#
# The image holds one static binary, its license and those of what is linked into it, nothing else: no shell, no
# libraries, no CA certificates. `make image` makes the same image without Docker.
#
#   docker build --build-arg VERSION=v0.1.0 -t neighpin .
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg SOURCE_DATE_EPOCH=1700000000 -t neighpin .
#
# It needs BuildKit, which every Docker since 23.0 uses by default. Nothing runs under emulation: the compiler is that of the
# building machine. With SOURCE_DATE_EPOCH two builds by BuildKit 0.11 or newer give one digest.

# Which stage or image the files come from. To package files that exist already, without the Go image, name an image that
# holds them in /image, as internal/cmd/rootfs makes them: --build-arg BINARY=my/files:1. The final image is the same either way.
ARG BINARY=build

# The Go of go.mod; the digest is that of the tag's index for all platforms, as Docker's own list has it (repo-info, golang/remote/1.26.8.md).
FROM --platform=$BUILDPLATFORM golang:1.26.8@sha256:9d2f36f06329b2a141b9db99ffa32765cf695ee57b813ca29e245e8670bcbfff AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETARCH VERSION=unknown SOURCE_DATE_EPOCH=0
RUN go run ./internal/cmd/rootfs -arch "$TARGETARCH" -version "$VERSION" -out /image

FROM ${BINARY} AS binary

FROM scratch
ARG VERSION=unknown REVISION=unknown
LABEL org.opencontainers.image.title="neighpin" \
      org.opencontainers.image.description="Pins the gateway neighbors of sandboxed pods before their runtime reads them" \
      org.opencontainers.image.source="https://github.com/neighpin/neighpin" \
      org.opencontainers.image.documentation="https://github.com/neighpin/neighpin/tree/main/docs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
WORKDIR /
COPY --from=binary /image/ /
ENTRYPOINT ["/neighpin"]
CMD ["plugin"]
