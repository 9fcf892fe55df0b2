//! One self-contained page: the figures, the plots, the decisions.

mod plots;

use std::fmt::Write as _;

use tower_mesh::sim::{Report, Scenario};

use self::plots::Plot;
use crate::Failure;
use crate::against::Peer;
use crate::text;

/// The most decisions that are listed.
const EVENTS: usize = 500;

pub fn page(
    name: &str,
    scenario: &Scenario,
    report: &Report,
    peers: &[(Peer, Report)],
) -> Result<String, Failure> {
    let mut out = String::with_capacity(1 << 20);
    let title = escape(&name.replace('-', " "));
    write!(out, "{}", HEAD.replace("TITLE", &title))?;
    write!(
        out,
        "<h1>{title}</h1><p class=sub>seed {}, {} s, {} client{}, {} endpoints. Virtual time; digest <code>{}</code></p>",
        scenario.seed(),
        scenario.duration().as_secs_f64(),
        report.clients,
        if report.clients == 1 { "" } else { "s" },
        report.endpoints.len(),
        report.digest,
    )?;
    table(&mut out, report, peers)?;
    for plot in Plot::all(report) {
        write!(
            out,
            "<section><h2>{}</h2><p class=sub>{}</p>",
            plot.title, plot.about
        )?;
        plot.legend(&mut out, report)?;
        // One drawing for wide windows and one for narrow ones: text that is scaled down cannot be read.
        for (class, width, height) in [
            ("wide", 1120, plot.height(report, true)),
            ("narrow", 360, plot.height(report, false)),
        ] {
            write!(
                out,
                "<div class={class}>{}</div>",
                plot.draw(report, (width, height))?
            )?;
        }
        write!(out, "</section>")?;
    }
    events(&mut out, report)?;
    out.push_str("</main></body></html>\n");
    Ok(out)
}

fn table(out: &mut String, report: &Report, peers: &[(Peer, Report)]) -> std::fmt::Result {
    write!(
        out,
        "<section><h2>Figures</h2><div class=scroll><table><thead><tr><th></th><th>tower-mesh</th>"
    )?;
    for (peer, _) in peers {
        write!(out, "<th>{peer}</th>")?;
    }
    write!(out, "</tr></thead><tbody>")?;
    for (figure, of) in text::figures() {
        write!(out, "<tr><td>{figure}</td><td>{}</td>", of(report))?;
        for (_, peer) in peers {
            write!(out, "<td>{}</td>", of(peer))?;
        }
        write!(out, "</tr>")?;
    }
    write!(out, "</tbody></table></div>")?;
    if !report.errors.is_empty() {
        let errors: Vec<_> = report
            .errors
            .iter()
            .map(|(why, n)| format!("{n} {}", escape(why)))
            .collect();
        write!(out, "<p class=sub>Errors: {}.</p>", errors.join(", "))?;
    }
    write!(out, "</section>")
}

fn events(out: &mut String, report: &Report) -> std::fmt::Result {
    write!(
        out,
        "<section><h2>Decisions about endpoints</h2><div class=scroll><table class=events><thead><tr><th>s</th>\
         <th>client</th><th>endpoint</th><th>what</th><th>why</th></tr></thead><tbody>"
    )?;
    for event in report.events.iter().take(EVENTS) {
        let endpoint = event.endpoint.and_then(|n| report.endpoints.get(n));
        write!(
            out,
            "<tr><td>{:.3}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            event.at.as_secs_f64(),
            event.client,
            escape(&endpoint.map(|e| e.label(report)).unwrap_or_default()),
            event.what.replace('_', " "),
            escape(&event.why),
        )?;
    }
    write!(out, "</tbody></table></div>")?;
    let all = report.events.len() as u64 + report.events_left_out;
    if let more @ 1.. = all.saturating_sub(EVENTS as u64) {
        write!(
            out,
            "<p class=sub>… and {more} more; <code>--json</code> has them.</p>"
        )?;
    }
    write!(out, "</section>")
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const HEAD: &str = "<!doctype html><html lang=en><head><meta charset=utf-8>\
<meta name=viewport content=\"width=device-width, initial-scale=1\"><title>TITLE – tower-mesh simulate</title><style>
:root{color-scheme:light}*{box-sizing:border-box}
body{margin:0;background:#f6f7f9;color:#1c2430;font:15px/1.45 system-ui,-apple-system,'Segoe UI',sans-serif}
main{max-width:1184px;margin:0 auto;padding:20px 16px 48px}
h1{font-size:24px;margin:0 0 2px;text-transform:capitalize}h2{font-size:17px;margin:0}
.sub{color:#5b6675;margin:2px 0 8px;font-size:14px;overflow-wrap:anywhere}
section{background:#fff;border:1px solid #e1e5ea;border-radius:8px;padding:14px 16px;margin-top:14px}
svg{display:block;max-width:100%;height:auto}
.narrow{display:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin:4px 0 6px;padding:0;list-style:none;font-size:13px}
.legend i{display:inline-block;width:12px;height:12px;border-radius:2px;margin-right:6px;vertical-align:-1px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}
th,td{text-align:right;padding:3px 14px 3px 0;white-space:nowrap}th{color:#5b6675;font-weight:600}
td:first-child{text-align:left}tbody tr{border-top:1px solid #edf0f3}
.events td,.events th{text-align:left}
@media(max-width:760px){.wide{display:none}.narrow{display:block}main{padding:12px 6px 32px}section{padding:12px 8px}
table{font-size:12px}th,td{padding-right:8px}td:first-child{white-space:normal}th:last-child,td:last-child{padding-right:0}.events td:last-child{white-space:normal}}
</style></head><body><main>";
