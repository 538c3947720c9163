"""Catalogues of public models and devices."""
