"""Explain a photo: prediction, ledger, a heatmap picture and a report."""

from __future__ import annotations

from pathlib import Path

import pellucid as pl
from pellucid.show.heatmap import heatmap
from pellucid.show.html import report

model = pl.load_model("demo")
photo = pl.read_input("demo", preprocessing=model.preprocessing)
explanation = pl.explain(model, photo.x)

print(explanation)
print(explanation.ledger)

out = Path("out")
out.mkdir(exist_ok=True)
heatmap(explanation, photo=photo.displays[0]).save(out / "cat.png")
report(explanation, out / "cat.html", images=photo.displays, names=photo.names)
print("wrote", out / "cat.png", "and", out / "cat.html")
