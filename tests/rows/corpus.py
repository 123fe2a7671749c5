"""The corpus on disk: graphs, recorded values of their inputs, and `corpus.json`, which describes them."""

import json
from pathlib import Path

import numpy as np

LISTING = "corpus.json"
FILES = "files.txt"


class Writer:
    """Writes graphs below a directory."""

    def __init__(self, directory):
        self.directory = directory
        self.graphs, self.skipped = [], []

    def add(self, source):
        """Writes a graph and its recorded values; gives its entry."""
        path = Path(source.origin) / f"{source.name}.onnx"
        (self.directory / path).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / path).write_bytes(source.model.SerializeToString())
        entry = {"file": str(path), "origin": source.origin, "name": source.name, "parent": None, "kind": None}
        entry["inputs"] = [{**each, "values": each["name"]} for each in source.inputs()]
        entry["recorded"] = None
        if source.recorded:
            entry["recorded"] = str(path.with_suffix(".npz"))
            save_arrays(self.directory / entry["recorded"], source.recorded)
        self.graphs.append(entry)
        return entry

    def add_mutant(self, parent, mutant):
        """Writes a mutant, which shares the recorded values of its parent."""
        name = f"{parent['name']}__{mutant.kind}"
        path = Path("mutant") / parent["origin"] / f"{name}.onnx"
        (self.directory / path).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / path).write_bytes(mutant.data)
        inputs = [{**each, "name": mutant.names.get(each["name"], each["name"])} for each in parent["inputs"]]
        changes = {"file": str(path), "origin": "mutant", "name": name, "inputs": inputs}
        self.graphs.append({**parent, **changes, "parent": parent["file"], "kind": mutant.kind, "edge": mutant.edge})

    def skip(self, source, reason):
        self.skipped.append({"origin": source.origin, "name": source.name, "reason": reason})

    def finish(self, seed):
        listing = {"seed": seed, "graphs": self.graphs, "skipped": self.skipped}
        (self.directory / LISTING).write_text(json.dumps(listing, indent=1))
        files = [str((self.directory / entry["file"]).resolve()) for entry in self.graphs]
        (self.directory / FILES).write_text("\n".join(files) + "\n")


def save_arrays(path, arrays):
    """Texts are written as fixed-width ones, which need no pickle."""
    plain = {name: array.astype(str) if array.dtype.kind == "O" else array for name, array in arrays.items()}
    np.savez(path, **plain)


def load_arrays(path):
    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in found.items()}


def recorded_values(directory, entry):
    """The recorded values of a graph, by the names of its inputs."""
    if entry["recorded"] is None:
        return {}
    arrays = load_arrays(directory / entry["recorded"])
    return {each["name"]: arrays[each["values"]] for each in entry["inputs"] if each["values"] in arrays}


def read(directory):
    return json.loads((directory / LISTING).read_text())
