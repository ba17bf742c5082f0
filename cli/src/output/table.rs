//! Plain tables: columns, no frames, so that they read well and grep well.

use comfy_table::{ContentArrangement, Table, presets};

/// A table with these column titles.
pub fn new(titles: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(titles);
    table
}

/// The table as text, without blanks around it or at the ends of lines.
pub fn text(table: &Table) -> String {
    let lines = table.to_string();
    // Every cell is padded, the first one too.
    let line = |line| str::trim_end(str::strip_prefix(line, " ").unwrap_or(line));
    let lines: Vec<&str> = lines.lines().map(line).collect();
    lines.join("\n")
}

/// A size as people read it.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_their_unit_small() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 40), "5.0 TiB");
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn tables_have_no_blanks_around_them() {
        let mut table = new(&["ID", "ADDRESS"]);
        table.add_row(["1", "a:1"]);
        assert_eq!(text(&table), "ID  ADDRESS\n1   a:1");
    }
}
