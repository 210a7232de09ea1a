# hyperslab and nothing else: built from this folder.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --workspace --bin hyperslab

FROM debian:bookworm-slim
# Certificates of those who have signed the certificates of object stores; curl asks after health.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home hyperslab
COPY --from=build /src/target/release/hyperslab /usr/local/bin/hyperslab
USER hyperslab
EXPOSE 50051
ENTRYPOINT ["hyperslab"]
