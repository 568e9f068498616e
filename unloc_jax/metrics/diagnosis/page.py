def to_page(d): return ""
