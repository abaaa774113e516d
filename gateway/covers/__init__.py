"""Cover pages: the first page of a paper letter, which tells its recipient how to fetch the digital copy."""
