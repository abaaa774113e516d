"""The recipient edge: whoever holds a paper letter fetches its authentic copy with the code on the cover page."""
