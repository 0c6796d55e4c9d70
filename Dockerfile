# SPDX-License-Identifier: Apache-2.0
#
# The image holds one static binary and its license, nothing else: no shell, no libraries, no CA certificates.
#
#   docker build --build-arg VERSION=v0.1.0 -t neighpin .
#
# It needs BuildKit, which every Docker since 23.0 uses by default.

# Which stage or image /neighpin comes from. To package a binary that exists already, without the Go image, name an
# image that holds it: --build-arg BINARY=my/binary:1. The final image is the same either way.
ARG BINARY=build

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /neighpin ./plugin

FROM ${BINARY} AS binary

FROM scratch
ARG VERSION=unknown
LABEL org.opencontainers.image.title="neighpin" \
      org.opencontainers.image.description="Pins the gateway neighbors of sandboxed pods before their runtime reads them" \
      org.opencontainers.image.source="https://github.com/neighpin/neighpin" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY LICENSE /LICENSE
COPY --from=binary /neighpin /neighpin
ENTRYPOINT ["/neighpin"]
CMD ["plugin"]
