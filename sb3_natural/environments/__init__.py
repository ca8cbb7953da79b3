"""Vectorised environments: SB3's with less copying, and EnvPool's."""
