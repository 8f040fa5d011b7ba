# Sourced by the scripts beside it: makes .venv beside setup.cfg where that is not done yet, and activates it.
# Usage: source launch/environment.sh EXTRA     (an extra of setup.cfg, such as dev, or "" for none)

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
    echo "Setting up .venv with $("$python" --version): a few minutes and about 7 GB, once."
    [ -x "$root/.venv/bin/python" ] || "$python" -m venv "$root/.venv" || return
    "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$root${extra:+[$extra]}" || {
        echo "The installation failed, see above; mend that and run the same command again." >&2
        return 1
    }
    echo "$wanted" >"$stamp"
}

make_environment "${1:-}" || exit 1
source "$root/.venv/bin/activate"
