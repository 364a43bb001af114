"""Generates the Python modules of the wire API beside their .proto files.

Run as ``make proto``. With a folder as its argument the modules go there instead, which is how the
drift test compares them with what is committed.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def has_service(path: Path) -> bool:
    """Whether the file declares a service, and so needs stubs."""
    return any(line.startswith("service ") for line in path.read_text().splitlines())


def generate(output: Path) -> None:
    """Write the modules of every .proto file under ``output``.

    Raises:
        subprocess.CalledProcessError: protoc refused a file; it has said why on stderr.
    """
    protos = sorted(ROOT.glob("pipelined_api/**/*.proto"))
    plugins = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).parent / f'protoc-gen-{name}'}"
        for name in ("mypy", "mypy_grpc")
    ]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", *plugins]
    output.mkdir(parents=True, exist_ok=True)
    messages = [f"--python_out={output}", f"--mypy_out=quiet:{output}"]
    stubs = [f"--grpc_python_out={output}", f"--mypy_grpc_out=quiet:{output}"]
    services = [path for path in protos if has_service(path)]
    subprocess.run([*protoc, *messages, *map(str, protos)], check=True)
    subprocess.run([*protoc, *stubs, *map(str, services)], check=True)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
