"""Holds onstage against `model_signing`: each must accept what the other has signed, and refuse it when a byte is
altered. docs/guides/signatures.md shows the commands."""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIGN = Path(sys.executable).with_name("model_signing")


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, **options)


def must(expected, *command):
    ended = run(*command)
    assert (ended.returncode == 0) == expected, f"{command}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout + ended.stderr


def key(directory, curve):
    private, public = directory / f"{curve}.key", directory / f"{curve}.pub"
    must(True, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-out", private)
    must(True, "openssl", "pkey", "-in", private, "-pubout", "-out", public)
    return private, public


def flipped(path):
    """The file with one bit of each of some bytes altered in turn; as it was at the end."""
    original = path.read_bytes()
    places = sorted({0, len(original) // 2, len(original) - 1}) if original else []
    try:
        for place in places:
            path.write_bytes(original[:place] + bytes([original[place] ^ 1]) + original[place + 1 :])
            yield place
    finally:
        path.write_bytes(original)


def example(directory):
    package = directory / "iris"
    shutil.copytree(ROOT / "model-examples/iris", package)
    return package


def theirs_is_verified_by_us(onstage, directory):
    """Every byte position is tried in the unit tests; here it is every file."""
    for curve in ["P-256", "P-384"]:
        private, public = key(directory, curve)
        package, seal = example(directory), directory / "iris.sig"
        must(True, SIGN, "sign", "key", package, "--private_key", private, "--signature", seal)
        assert "holds, by key" in must(True, onstage, "verify", package, "--key", public)
        altered = 0
        for path in sorted(package.rglob("*")):
            for _ in flipped(path):
                said = must(False, onstage, "verify", package, "--key", public)
                assert f"`{path.relative_to(package)}` was altered" in said, said
                altered += 1
        assert altered > 30, altered
        must(True, onstage, "verify", package, "--key", public)
        (package / "extra").write_text("x")
        assert "`extra` is not among" in must(False, onstage, "verify", package, "--key", public)
        shutil.rmtree(package)
        seal.unlink()


def ours_is_verified_by_them(onstage, directory):
    for curve in ["P-256", "P-384"]:
        private, public = key(directory, curve)
        package = directory / f"ours-{curve}"
        must(True, onstage, "package", ROOT / "tests/models/twice_float32.onnx", "-o", package, "--sign", private)
        check = [SIGN, "verify", "key", package, "--signature", package / "model.sig", "--public_key", public]
        must(True, *check)
        for path in sorted(package.rglob("*")):
            if path.name != "model.sig":
                for _ in flipped(path):
                    must(False, *check)
                    break
        must(True, onstage, "verify", package, "--key", public)


def what_we_refuse_is_said(onstage, directory):
    private, public = key(directory, "P-521")
    package, seal = example(directory), directory / "iris.sig"
    must(True, SIGN, "sign", "key", package, "--private_key", private, "--signature", seal)
    assert "P-521, which is not supported" in must(False, onstage, "verify", package, "--key", public)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True, type=Path)
    onstage = parser.parse_args().binary.resolve()
    for check in [theirs_is_verified_by_us, ours_is_verified_by_them, what_we_refuse_is_said]:
        with tempfile.TemporaryDirectory() as directory:
            check(onstage, Path(directory))
        print(f"{check.__name__}: as expected")


if __name__ == "__main__":
    main()
