"""From predictions files to metrics with intervals, figures and a report. numpy, scipy, pandas and scikit-learn; no torch."""
