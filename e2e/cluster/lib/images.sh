# The container images of the cluster, written as docker archives by hand: no image builder, no
# daemon, no mounts.
#
# One Debian layer is shared by all images but pause; an image adds one layer with one program. So a
# fresh Rust binary is an image within a second or two, and containerd unpacks only what is new. The
# archives are $CACHE/images/<name>-<tag>-<hash of the contents>.tar. Loads no image itself.
# shellcheck shell=bash

readonly IMAGES=$CACHE/images
readonly REGISTRY=smidge.local
readonly APPLICATION_USER=65532
readonly PROXY_USER=1337

# `smidge redirect` calls nftables, iptables and iproute2; curl is for tests and users.
readonly DEBIAN=bookworm
readonly BASE_PACKAGES=ca-certificates,curl,iproute2,iptables,netbase,nftables
readonly BASE_RECIPE=1
BASE_LAYER=$IMAGES/base-$(sha256sum <<<"$BASE_RECIPE $DEBIAN $BASE_PACKAGES" | cut -c1-12).layer
readonly BASE_LAYER

ensure_base_layer() {
    [[ ! -e $BASE_LAYER ]] || return 0
    local made
    mkdir -p "$IMAGES"
    made=$(cache_tmp base)
    step "building the Debian layer of the images" build_base_layer "$made/base.tar"
    digest_of "$made/base.tar" >"$BASE_LAYER.digest"
    mv "$made/base.tar" "$BASE_LAYER"
    rm -rf "$made"
}

# Prints the hash of a file; that of a layer in the cache is stored beside it.
digest_of() {
    if [[ -e $1.digest ]]; then
        cat "$1.digest"
    else
        sha256sum "$1" | cut -d' ' -f1
    fi
}

build_base_layer() {
    SOURCE_DATE_EPOCH=1 mmdebstrap --variant=essential --include="$BASE_PACKAGES" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        "$DEBIAN" "$1"
}

# Builds the archives that every cluster loads, once, and prints their paths.
standard_images() {
    local version
    ensure_base_layer
    program_image pause dev 0 "$PAUSE_BIN/pause" /pause
    base_image
    for version in "$ENVOY_VERSION" "$ENVOY_OLDEST_VERSION"; do
        program_image envoy "$version" "$PROXY_USER" "$(envoy_bin "$version")/envoy" \
            /usr/local/bin/envoy "$BASE_LAYER"
    done
}

# Builds the image of a program of this repository, with the Debian layer below it.
application_image() {
    local name=$1 program=$2
    [[ -f $program ]] || die "no such file: $program"
    ensure_base_layer
    program_image "$name" dev "$APPLICATION_USER" "$program" "/usr/local/bin/$name" "$BASE_LAYER"
}

# Builds Debian alone, as smidge.local/base:dev: a shell and curl, for pods that have no sidecar.
base_image() {
    local archive
    archive=$IMAGES/base-dev-$(basename "$BASE_LAYER" .layer).tar
    if [[ ! -e $archive ]]; then
        write_archive "$archive" "$REGISTRY/base:dev" 0 '["/bin/sh"]' "$BASE_LAYER"
    fi
    printf '%s\n' "$archive"
}

# Builds the archive of one program, if these bytes have none yet, and prints its path.
program_image() {
    local name=$1 tag=$2 user=$3 program=$4 path=$5 layer archive work key
    shift 5
    key=$(printf '%s\n' "$user" "$path" "$@" "$(digest_of "$program")" | sha256sum | cut -c1-12)
    archive=$IMAGES/$name-$tag-$key.tar
    if [[ ! -e $archive ]]; then
        work=$(cache_tmp image)
        layer=$work/program.layer
        write_program_layer "$layer" "$program" "$path"
        write_archive "$archive" "$REGISTRY/$name:$tag" "$user" "[\"$path\"]" "$@" "$layer"
        rm -rf "$work"
    fi
    prune_archives "$archive" "$IMAGES/$name-$tag-"
    printf '%s\n' "$archive"
}

# Keeps only the newest archive of each name and tag: developers build many.
prune_archives() {
    local keep=$1 prefix=$2 other
    for other in "$prefix"*.tar; do
        [[ $other == "$keep" ]] || rm -f "$other"
    done
}

write_program_layer() {
    local layer=$1 program=$2 path=$3 root
    root=$(cache_tmp root)
    mkdir -p "$root${path%/*}"
    cp "$program" "$root$path"
    find "$root" -exec chmod 755 {} +
    tar -cf "$layer" --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner \
        -C "$root" "$(cut -d/ -f2 <<<"$path")"
    rm -rf "$root"
}

# Writes a docker archive: manifest, configuration and layers, each file named by its own hash.
write_archive() {
    local archive=$1 tag=$2 user=$3 entrypoint=$4 folder layer digest config layers=() diffs=()
    shift 4
    folder=$(cache_tmp archive)
    for layer in "$@"; do
        digest=$(digest_of "$layer")
        ln -s "$layer" "$folder/$digest.tar"
        layers+=("$digest.tar") diffs+=("sha256:$digest")
    done
    image_config "$user" "$entrypoint" "${diffs[@]}" >"$folder/config.json"
    config=$(sha256sum "$folder/config.json" | cut -d' ' -f1).json
    mv "$folder/config.json" "$folder/$config"
    jq -cn --arg tag "$tag" --arg config "$config" \
        '[{Config: $config, RepoTags: [$tag], Layers: $ARGS.positional}]' \
        --args "${layers[@]}" >"$folder/manifest.json"
    mkdir -p "$IMAGES"
    tar -chf "$folder.tar" -C "$folder" .
    mv "$folder.tar" "$archive"
    rm -rf "$folder"
}

image_config() {
    local user=$1 entrypoint=$2
    shift 2
    jq -cn --arg user "$user" --argjson entrypoint "$entrypoint" --arg arch "$(go_arch)" \
        '{architecture: $arch, os: "linux",
          config: {User: $user, Entrypoint: $entrypoint, WorkingDir: "/",
                   Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
          rootfs: {type: "layers", diff_ids: $ARGS.positional}}' --args "$@"
}

# Prints the machine's architecture as Go and OCI name it.
go_arch() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) uname -m ;;
    esac
}
