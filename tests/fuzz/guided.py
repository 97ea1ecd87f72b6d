"""Fuzzes one target in this process: `python -m tests.fuzz.guided TARGET SECONDS FOLDER`."""

import sys

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["gramophone_server", "PIL"], enable_loader_override=False):
    from .targets import CORPUS, TARGETS


def main(target: str, seconds: str, reached: str) -> None:
    """Fuzzes; writes inputs that reach new code to the folder `reached` and inputs that fail to the corpus."""
    found = CORPUS / target
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={found}/", "-timeout=10", "-rss_limit_mb=3000"]
    options += ["-max_len=20000", "-print_final_stats=1", "-verbosity=0", "-use_value_profile=1"]
    atheris.Setup([sys.argv[0], *options, reached], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
