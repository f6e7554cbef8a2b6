#!/usr/bin/env python3
"""Writes boosting.json: what scikit-learn's histogram gradient boosting (python3-sklearn of Debian) makes of made-up
data with missing numbers. TestBoostingAgreesWithScikitLearn compares."""
import json

import numpy
import sklearn
from sklearn.ensemble import HistGradientBoostingRegressor

random = numpy.random.default_rng(1)
ROWS = 300
x = numpy.round(random.uniform(0, 10, (ROWS, 4)), 1)
y = numpy.round(3 * x[:, 0] + (x[:, 1] - 5) ** 2 + numpy.where(x[:, 2] > 6, 20, 0) + random.exponential(4, ROWS), 3)
x[random.uniform(size=ROWS) < 0.1, 1] = numpy.nan
x[(x[:, 0] > 8) & (random.uniform(size=ROWS) < 0.5), 2] = numpy.nan
x, y = x.astype("float32"), y.astype("float32")


def predictions(**loss):
    model = HistGradientBoostingRegressor(
        **loss, max_iter=30, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=10, early_stopping=False)
    return model.fit(x, y).predict(x).tolist()


with open("boosting.json", "w") as out:
    json.dump({
        "version": sklearn.__version__,
        "x": [[None if numpy.isnan(v) else round(float(v), 1) for v in row] for row in x],
        "y": [round(float(v), 3) for v in y],
        "squared": [round(v, 5) for v in predictions(loss="squared_error")],
        "absolute": [round(v, 5) for v in predictions(loss="absolute_error")],
        "quantile90": [round(v, 5) for v in predictions(loss="quantile", quantile=0.9)],
    }, out)
    out.write("\n")
