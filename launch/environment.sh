# Sourced by the scripts beside it: makes .venv beside setup.cfg where that is not done yet, and activates it.
# Usage: source launch/environment.sh EXTRA     (an extra of setup.cfg, such as dev, or "" for none)
#
# DINOGEN_TORCH_INDEX   the address of PyTorch's package index for one kind of machine, as pytorch.org names it for pip:
#                       with the one for CPUs the environment takes 2.5 GB instead of 7. It counts when .venv is new.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3 python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "dinogen needs Python 3.11 or newer with venv: install it (python3.11-venv on Debian), or name it: PYTHON=/path/to/python bash $0" >&2
    return 1
}

make_environment() {
    local extra="$1" python
    local stamp="$root/.venv/installed${extra:+-$extra}"
    local wanted
    wanted="$(cksum <"$root/setup.cfg") $root"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    python="$(find_python)" || return
    echo "Setting up .venv with $("$python" --version): a few minutes, once."
    if [ -z "${DINOGEN_TORCH_INDEX:-}" ]; then
        echo "It takes about 7 GB, most of it for NVIDIA GPUs."
        command -v nvidia-smi >/dev/null || echo "Without such a GPU 2.5 GB will do: stop this, delete .venv, look up" \
            "PyTorch's package index for CPUs at pytorch.org, and run: DINOGEN_TORCH_INDEX=ADDRESS bash $0"
    fi
    [ -x "$root/.venv/bin/python" ] || "$python" -m venv "$root/.venv" || return
    install_packages "$extra" || {
        echo "The installation failed, see above; mend that and run the same command again." >&2
        return 1
    }
    echo "$wanted" >"$stamp"
}

install_packages() {
    local pip=("$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check)
    if [ -n "${DINOGEN_TORCH_INDEX:-}" ]; then
        # torch and torchvision from there, in setup.cfg's versions; what is installed is not fetched a second time.
        local torch
        mapfile -t torch < <(sed -nE 's/^ *(torch(vision)?[<>=].*)$/\1/p' "$root/setup.cfg")
        "${pip[@]}" --index-url "$DINOGEN_TORCH_INDEX" "${torch[@]}" || return
    fi
    "${pip[@]}" -e "$root${1:+[$1]}"
}

make_environment "${1:-}" || exit 1
source "$root/.venv/bin/activate"
