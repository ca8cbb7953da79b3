"""How a report becomes text and pictures: pages, tables and figures."""
