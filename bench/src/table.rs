//! The figures for people.

use comfy_table::{CellAlignment, Table, presets};

use crate::figures::Figures;
use crate::parties::Role;

/// A few lines about the run, and a table.
pub(crate) fn render(figures: &Figures) -> String {
    let Figures { work, machine, .. } = figures;
    let [before, ..] = machine.load_average_before;
    let [after, ..] = machine.load_average_after;
    let path =
        if figures.cpu.envelope.is_some() { "relay, gateway, leader, helper" } else { "leader, helper" };
    format!(
        "{}, {} reports, one per request, {} connections, {path}; {}\n\
         {}, {} cores, load average {before:.1} before and {after:.1} after; the total is right\n\n{}\n\n{}\n\n{}",
        work.vdaf,
        work.reports,
        work.connections,
        work.database,
        machine.processor,
        machine.cores,
        cpu(figures),
        primitives(figures),
        rest(figures),
    )
}

fn cpu(figures: &Figures) -> Table {
    let mut table = table(["CPU time", "us per report"]);
    let cpu = &figures.cpu;
    for role in [Role::Relay, Role::Gateway, Role::Leader, Role::Helper] {
        if let Some(time) = cpu.roles.get(&role) {
            table.add_row([role.name().to_owned(), format!("{time:.1}")]);
        }
    }
    if let Some(time) = cpu.database {
        table.add_row(["database server".to_owned(), format!("{time:.1}")]);
    }
    if let Some(time) = cpu.envelope {
        table.add_row(["relay + gateway".to_owned(), format!("{time:.1}")]);
        table.add_row(["leader + helper + database".to_owned(), format!("{:.1}", cpu.dap)]);
    }
    table.add_row(["total".to_owned(), format!("{:.1}", cpu.total)]);
    table.add_row(["roofline".to_owned(), format!("{:.1}", cpu.roofline)]);
    table.add_row(["ratio".to_owned(), format!("{:.2}", cpu.ratio)]);
    table
        .add_row(["core hours per 100 million".to_owned(), format!("{:.2}", cpu.core_hours_per_100_million)]);
    table
}

fn primitives(figures: &Figures) -> Table {
    let mut table = table(["primitive", "us per report"]);
    let primitives = &figures.primitives;
    let mut rows = vec![
        ("leader: HPKE open", primitives.leader_hpke_open),
        ("leader: begin verification", primitives.leader_init),
        ("helper: HPKE open", primitives.helper_hpke_open),
        ("helper: verify", primitives.helper_init),
        ("leader: finish verification", primitives.leader_continued),
        ("both: add", primitives.aggregate),
    ];
    if figures.cpu.envelope.is_some() {
        rows.push(("gateway: open and answer", primitives.envelope));
    }
    for (name, time) in rows {
        table.add_row([name.to_owned(), format!("{time:.2}")]);
    }
    table
}

fn rest(figures: &Figures) -> Table {
    let mut table = table(["", ""]);
    let speed = &figures.speed;
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("uploads per second", format!("{:.0}", speed.uploads_per_second));
    row("upload p50", format!("{:.2} ms", speed.latency_ms_p50));
    row("upload p99", format!("{:.2} ms", speed.latency_ms_p99));
    row("upload max", format!("{:.2} ms", speed.latency_ms_max));
    row("last upload to result", format!("{:.2} s", speed.seconds_from_last_upload_to_result));
    row("reports per second, first upload to result", format!("{:.0}", speed.reports_per_second_end_to_end));
    for (role, memory) in &figures.memory {
        let values = format!("{} / {}", mebibytes(memory.idle), mebibytes(memory.peak));
        row(&format!("{}: memory idle / peak", role.name()), values);
    }
    let storage = &figures.storage;
    row("request, report", format!("{} B, {} B", figures.work.request_bytes, figures.work.report_bytes));
    for (role, bytes) in &storage.written {
        row(&format!("{}: written per report", role.name()), format!("{bytes:.0} B"));
    }
    if let Some(bytes) = storage.write_ahead_log {
        row("write-ahead log per report", format!("{bytes:.0} B"));
    }
    for (role, bytes) in &storage.kept {
        row(&format!("{}: kept per report", role.name()), format!("{bytes:.0} B"));
    }
    table
}

fn table(head: [&str; 2]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(head);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
