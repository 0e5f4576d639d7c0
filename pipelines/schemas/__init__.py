"""The JSON files that commands write, as types; `docs/schemas/` holds the JSON Schemas that are made of them.

`python -m pipelines.schemas docs/schemas` makes them again. Files that only a later call of the same command reads are
not among them: state.json, steps.json, demo.json, and what lies in unfinished/, work/, cache/, progress/ and png/, and
in studies/ of a store.
"""
