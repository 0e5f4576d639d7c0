"""`python -m pipelines.schemas FOLDER` writes all JSON Schemas; those of the project lie in docs/schemas."""

import argparse
from pathlib import Path

from pipelines.schemas.registry import write_schemas

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to write to")
    write_schemas(parser.parse_args().folder)
