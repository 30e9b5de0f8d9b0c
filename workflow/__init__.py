"""The steps of a run: data, model, training, baselines, judging, hand-over. It may import every other package."""
