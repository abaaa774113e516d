"""The code that speaks to each kind of provider; a new kind is one file here and one case in `build.py`."""
