"""What a person looks at: rows for charts, and the charts."""
