//! The figures for people.

use comfy_table::{CellAlignment, Table, presets};

use super::figures::{Crowd, Figures, Honest, mebibytes};

/// A few lines about the run, and a table for everything that was measured.
pub(super) fn render(figures: &Figures) -> String {
    let mut parts = vec![head(figures)];
    let tables = [cpu(figures), latency(figures), merging(figures), others(figures), idle(figures)];
    parts.extend(tables.into_iter().flatten().map(|table| table.to_string()));
    parts.extend(figures.crowd.as_ref().map(crowd));
    parts.extend(aims(figures).map(|table| table.to_string()));
    parts.join("\n\n")
}

fn head(figures: &Figures) -> String {
    let Figures { requests, connections, report_bytes, request_bytes, .. } = figures;
    let machine = figures.machine.as_ref().map_or_else(String::new, |machine| {
        let ([before, ..], [after, ..]) = (machine.load_average_before, machine.load_average_after);
        format!(
            "\n{}, {} cores, load average {before:.1} before and {after:.1} after",
            machine.processor, machine.cores
        )
    });
    format!(
        "{requests} requests a figure, {connections} connections; a report of {report_bytes} bytes is a request of \
         {request_bytes}{machine}"
    )
}

fn cpu(figures: &Figures) -> Option<Table> {
    let head = ["CPU time, us per report", "relay", "gateway", "both", "database server", "requests/s"];
    let rows = figures.cpu.iter().map(|row| {
        let server = row.database_server.map_or_else(String::new, tenths);
        vec![
            format!("{}, {}", row.http.name(), row.database),
            tenths(row.relay),
            tenths(row.gateway),
            tenths(row.relay + row.gateway),
            server,
            whole(row.per_second),
        ]
    });
    table(&head, rows)
}

fn latency(figures: &Figures) -> Option<Table> {
    let head = [
        "latency at half load, ms",
        "requests/s",
        "through p50 / p99",
        "direct p50 / p99",
        "added p50 / p99",
    ];
    let rows = figures.latency.iter().map(|row| {
        let pair = |waits: &super::figures::Waits| format!("{:.2} / {:.2}", waits.p50, waits.p99);
        let first = format!("{}, {}", row.http.name(), row.database);
        vec![first, whole(row.per_second), pair(&row.through), pair(&row.direct), pair(&row.added)]
    });
    table(&head, rows)
}

fn merging(figures: &Figures) -> Option<Table> {
    let head = ["uploads", "gateway, us per report", "requests at the target per report"];
    let rows = figures.merging.iter().map(|row| {
        let name = if row.merged { "merged" } else { "alone" };
        vec![format!("{name}, {}", row.database), tenths(row.gateway), format!("{:.3}", row.target_requests)]
    });
    table(&head, rows)
}

fn others(figures: &Figures) -> Option<Table> {
    let head = ["beside, HTTP/1.1", "CPU, us per request", "requests/s", "ours over it"];
    let rows = figures.others.iter().flat_map(|row| {
        let ours = vec![format!("{}: mica", row.place), tenths(row.ours.cpu), whole(row.ours.per_second)];
        let other = vec![
            format!("{}: {}", row.place, row.name),
            tenths(row.other.cpu),
            whole(row.other.per_second),
            format!("{:.2}", row.ratio),
        ];
        [ours, other]
    });
    table(&head, rows)
}

fn idle(figures: &Figures) -> Option<Table> {
    let head = ["idle connections", "how many", "memory before", "after", "each"];
    let rows = figures.idle.iter().map(|row| {
        vec![
            format!("{}, {}", row.relay, row.http.name()),
            row.connections.to_string(),
            format!("{:.1} MiB", mebibytes(row.before)),
            format!("{:.1} MiB", mebibytes(row.after)),
            format!("{} B", row.each),
        ]
    });
    table(&head, rows)
}

fn crowd(crowd: &Crowd) -> String {
    let honest = |name: &str, client: &Honest| {
        format!(
            "{name}: {} served, {} failed, p50 {:.1} ms, at most {:.0} ms",
            client.served, client.failed, client.p50_ms, client.most_ms
        )
    };
    format!(
        "a crowd before a relay of {} connections: {} attempts in {:.0} s, {} came about; memory {:.1} MiB before, at most \
         {:.1} MiB\n{}\n{}",
        crowd.max_connections,
        crowd.attempts,
        crowd.seconds,
        crowd.connected,
        mebibytes(crowd.memory_before),
        mebibytes(crowd.memory_most),
        honest("  who keeps a connection", &crowd.kept),
        honest("  who connects anew", &crowd.anew),
    )
}

fn aims(figures: &Figures) -> Option<Table> {
    let rows = figures.aims.iter().map(|aim| {
        let met = if aim.met { "met" } else { "MISSED" };
        vec![aim.what.clone(), whole(aim.at_most), tenths(aim.measured), met.to_owned()]
    });
    table(&["promised", "at most", "measured", ""], rows)
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Option<Table> {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    (!table.is_empty()).then_some(table)
}

fn tenths(number: f64) -> String {
    format!("{number:.1}")
}

fn whole(number: f64) -> String {
    format!("{number:.0}")
}
