# The agent's image: one static binary and the public certificate authorities. No shell, not root, no lab.
# Its second image, by `--target creds`, makes the demo's credentials; docker-compose.yml runs it once.

FROM rust:1.95-alpine AS source
RUN apk add --no-cache musl-dev
WORKDIR /src
COPY . .

FROM source AS build
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --no-default-features && cp target/release/gatewatch /gatewatch

# Runs for a moment and once: what counts is how soon it is built.
FROM source AS build-lab
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --config profile.dev.debug=false --config profile.dev.strip=true \
        --config 'profile.dev.package."*".opt-level=0' && cp target/debug/gatewatch /gatewatch

FROM scratch AS creds
COPY --from=build-lab /gatewatch /gatewatch
USER 65532:65532
ENTRYPOINT ["/gatewatch", "lab", "creds", "--to", "/creds"]

FROM scratch AS agent
LABEL org.opencontainers.image.title="gatewatch" \
      org.opencontainers.image.description="Watches the gateways of a NATS supercluster" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /gatewatch /gatewatch
USER 65532:65532
ENTRYPOINT ["/gatewatch"]
CMD ["run"]
