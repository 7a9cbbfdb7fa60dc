"""Calibration of profile `transform`: from a model and a few texts to the object its codec needs.

`kdn-calibrate --help` is the way in; `pipeline.Calibrator` is the same from Python. `transform_object`, `tables`,
`codec` and `rans` need NumPy alone: a second, readable implementation of the profile.
"""
