"""One version: trained again, or taken elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from nightshift import local
from nightshift.cli.base import AsJson, Model, app, conclude, reading


@app.command()
def reproduce(
    model: Model,
    version: Annotated[int | None, typer.Option(help="Its number; the latest by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a version again from its manifest; exit code 1 where its bytes are not the same."""
    from nightshift import reports
    from nightshift.steps import versions as versions_steps

    with reading().transaction() as tx:
        model_id = reports.find_model(tx, model).model_id
    report = versions_steps.reproduce(local.site(), model_id, version)
    conclude(report, holds=report.same, as_json=as_json)


@app.command()
def export(
    model: Model,
    onnx: Annotated[Path, typer.Option(help="The file to write.")],
    version: Annotated[int | None, typer.Option(help="Its number; the latest by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a version as ONNX and compare it on its holdout; exit code 1 where they disagree."""
    from nightshift import reports
    from nightshift.steps import versions as versions_steps

    with reading().transaction() as tx:
        model_id = reports.find_model(tx, model).model_id
    now = datetime.now(UTC)
    report = versions_steps.export_onnx(local.site(), model_id, onnx, now=now, number=version)
    conclude(report, holds=report.agrees, as_json=as_json)
