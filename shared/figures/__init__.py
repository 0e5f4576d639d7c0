"""Everything that draws: dark pages of slices, contact sheets, plots and HTML reports."""
