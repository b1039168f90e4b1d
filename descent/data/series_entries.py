"""The entries of the named time series. Nothing here imports torch."""

from __future__ import annotations

from descent.data.entry_types import RAW, Entry, files

__all__ = ["SERIES"]

SERIES = (
    Entry(
        "etth1",
        "an electricity transformer in a Chinese county: oil temperature and six loads, every hour from July "
        "2016 to June 2018; 12, 4 and 4 months to train, validate and test on, as published",
        "series",
        "ett",
        "CC BY-ND 4.0 (kept unmodified)",
        "H. Zhou et al., Informer: beyond efficient Transformer for long sequence time-series forecasting, "
        "AAAI, 2021 (data and parts)",
        files(
            f"{RAW}/zhouhaoyi/ETDataset/main/ETT-small",
            ("ETTh1.csv", 2589657, "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"),
        ),
        folder="ett",
    ),
    Entry(
        "google-stock",
        "Google's share on 1,047 trading days from August 2004 to October 2008: prices and volume; "
        "comes with matplotlib, no download",
        "series",
        "google-stock",
        "as bundled by matplotlib (prices of Yahoo Finance)",
        "matplotlib's sample data, goog.npz",
    ),
)
