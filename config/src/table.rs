//! Aligned tables for people, at most 100 columns wide.

use std::fmt::Write;

use crate::render::printable;

/// The widest that a line is made, in columns.
const COLUMNS_MAX: usize = 100;

/// A header and rows, every text free of control characters.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = Vec<String>>,
) -> Vec<Vec<String>> {
    let header = header.iter().map(|name| (*name).to_owned()).collect();
    let rows = rows.map(|row| row.iter().map(|cell| printable(cell)).collect());
    std::iter::once(header).chain(rows).collect()
}

/// Adds a titled table, as wide as the page allows; one without rows is left out.
pub(crate) fn section(page: &mut String, title: &str, rows: &[Vec<String>]) {
    if rows.len() < 2 {
        return;
    }
    let count = rows[0].len();
    let of_column = |column: usize| {
        // A row of one cell is a title over the columns.
        let cells = rows.iter().filter(|row| row.len() == count);
        cells
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..count).map(of_column).collect();
    // The widest columns give way until the row fits.
    while widths.iter().sum::<usize>() + 2 * count > COLUMNS_MAX {
        let Some(widest) = widths.iter_mut().max() else {
            break;
        };
        *widest -= 1;
    }
    writeln!(page, "\n{title}").expect("writing to a string cannot fail");
    for row in rows {
        let mut line = String::from("  ");
        if let [title] = &row[..] {
            line.push_str(&clipped(title, COLUMNS_MAX - 2));
            writeln!(page, "{line}").expect("writing to a string cannot fail");
            continue;
        }
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{:<width$}  ", clipped(cell, *width)));
        }
        page.push_str(line.trim_end());
        page.push('\n');
    }
}

fn clipped(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars()
        .take(width.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// So many of something.
pub(crate) fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
