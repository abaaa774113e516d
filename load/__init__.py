"""The load and soak tool and the benchmark: `python -m load --help`. What figures mean: docs/performance.md."""
