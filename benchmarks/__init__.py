"""Measurements: HyperSend beside bare references and its peers, as ratios of one run.

    make bench [ONLY=upload,messages]    half an hour for everything      make bench QUICK=1    a few minutes

`run` is the entry, `measure_*` say what is measured, `client_*` make the load and `reference_*` are the bare servers.
"""
