//! The findings of a probe as tables.

use super::Findings;
use crate::output::{self, thousands};
use smolt_infer::probe::{Experts, FEW, Layer, Mass, Norms, Planted, Report};

/// Experts up to which a table has a column for each; of more, `--json` has all.
const COLUMNS: usize = 16;

pub(super) fn print(findings: &Findings) {
    let report = &findings.report;
    output::line(format_args!("{}\n\n{}", findings.folder.display(), texts(report)));
    output::line(format_args!("\nnorms of rows:\n{}", embeddings(report)));
    output::line(format_args!(
        "\nroot mean square of the residual stream before the first layer {:.4}; behind each layer, and of what is added to it:\n{}",
        report.embedded_rms,
        sizes(report)
    ));
    output::line(format_args!(
        "\nattention: scores, and shares of the first token and the first {FEW} of a document, mean and largest over heads:\n{}",
        looks(report)
    ));
    if let Some(planted) = &findings.needle {
        output::line(format_args!(
            "\nneedle: share of the last token's attention by depth, mean over heads and the head with most; uniform is what it \
             would be if all were seen alike:\n{}",
            needle(planted)
        ));
    }
    experts(report);
    for warning in &findings.warnings {
        output::line(format_args!("\nwarning: {warning}"));
    }
}

fn texts(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .texts
        .iter()
        .map(|text| {
            let (documents, tokens) = (thousands(text.documents as u64), thousands(text.tokens as u64));
            let mut row = vec![text.name.clone(), documents, tokens, format!("{:.4}", text.loss)];
            let z = &text.log_z;
            row.extend([z.mean, z.deviation, z.least, z.most].map(|x| format!("{x:.3}")));
            row
        })
        .collect();
    let header = ["text", "documents", "tokens", "loss", "mean log Z", "deviation", "least", "most"];
    output::table(&header, &rows)
}

fn embeddings(report: &Report) -> String {
    let row = |name: &str, norms: &Norms| {
        let numbers = [norms.least, norms.low, norms.median, norms.high, norms.most, norms.rms];
        std::iter::once(name.to_owned()).chain(numbers.map(|x| format!("{x:.4}"))).collect()
    };
    let name = if report.head.is_some() { "embedding" } else { "embedding and head" };
    let rows: Vec<Vec<String>> = std::iter::once(row(name, &report.embedding))
        .chain(report.head.as_ref().map(|norms| row("head", norms)))
        .collect();
    output::table(&["matrix", "least", "1 %", "median", "99 %", "most", "rms of elements"], &rows)
}

fn by_layer(report: &Report, row: impl Fn(&Layer) -> Vec<String>) -> Vec<Vec<String>> {
    let layers = report.layers.iter().enumerate();
    layers.map(|(i, layer)| [vec![i.to_string()], row(layer)].concat()).collect()
}

fn sizes(report: &Report) -> String {
    let row = |layer: &Layer| {
        [layer.stream_rms, layer.attention_rms, layer.mlp_rms].map(|x| format!("{x:.4}")).to_vec()
    };
    let experts = report.layers.iter().any(|layer| layer.experts.is_some());
    let mlp = if experts { "MLP or experts" } else { "MLP" };
    output::table(&["layer", "stream", "attention", mlp], &by_layer(report, row))
}

/// A mean and a largest share, in per cent.
fn percents(mass: Option<Mass>) -> [String; 2] {
    mass.map_or(["–", "–"].map(str::to_owned), |mass| [mass.mean, mass.most].map(percent))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn looks(report: &Report) -> String {
    let sinks = report.layers.iter().any(|layer| layer.looks.sinks.is_some());
    let row = |layer: &Layer| {
        let looks = &layer.looks;
        let scores = [looks.largest_score, looks.largest_product].map(|x| format!("{x:.2}"));
        let mut row = [scores, percents(looks.first), percents(looks.few)].concat();
        row.push(looks.few_uniform.map_or("–".into(), percent));
        if sinks {
            row.extend(percents(looks.sinks));
        }
        row
    };
    let few = format!("first {FEW}");
    let mut header = vec!["layer", "largest", "|q·k|", "first", "most", few.as_str(), "most", "uniform"];
    if sinks {
        header.extend(["sinks", "most"]);
    }
    output::table(&header, &by_layer(report, row))
}

fn needle(planted: &[Planted]) -> String {
    let depths = planted.iter().map(|at| percent_of_depth(at.depth));
    let header: Vec<String> = std::iter::once("layer".to_owned())
        .chain(depths.flat_map(|depth| [depth, "most".into()]))
        .chain(std::iter::once("uniform".into()))
        .collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let layers = planted.first().map_or(0, |at| at.layers.len());
    let row = |layer: usize| -> Vec<String> {
        let found = planted.iter().map(|at| &at.layers[layer]);
        let most = found.clone().map(|found| found.uniform).fold(0.0, f64::max);
        let shares = found.flat_map(|found| percents((found.uniform > 0.0).then_some(found.mass)));
        std::iter::once(layer.to_string()).chain(shares).chain([percent(most)]).collect()
    };
    output::table(&header, &(0..layers).map(row).collect::<Vec<_>>())
}

fn percent_of_depth(depth: f64) -> String {
    format!("{:.0} %", 100.0 * depth)
}

/// Experts by layer, and what they serve of each text.
fn experts(report: &Report) {
    let layers: Vec<(usize, &Experts)> = report
        .layers
        .iter()
        .enumerate()
        .filter_map(|(i, layer)| Some((i, layer.experts.as_ref()?)))
        .collect();
    let Some(count) = layers.first().map(|(_, experts)| experts.experts()) else { return };
    let row = |(layer, experts): &(usize, &Experts)| {
        let numbers = [experts.max_load(), experts.entropy()].map(|x| format!("{x:.3}"));
        [vec![layer.to_string()], numbers.to_vec(), vec![experts.dead().len().to_string()]].concat()
    };
    output::line(format_args!(
        "\nexperts: load of the busiest relative to the mean, entropy of the router (even: {:.3} nats), experts without a token:\n{}",
        (count as f64).ln(),
        output::table(&["layer", "busiest", "entropy", "dead"], &layers.iter().map(row).collect::<Vec<_>>())
    ));
    if count <= COLUMNS {
        output::line(format_args!(
            "\nshare of each text's tokens that an expert serves:\n{}",
            domains(report, &layers, count)
        ));
    }
    let specialised = specialised(report, &layers);
    if !specialised.is_empty() {
        let header = ["layer, text", "expert", "share", "of its mean"];
        output::line(format_args!(
            "\nexperts over-activated in a text:\n{}",
            output::table(&header, &specialised)
        ));
    }
}

/// MOE-09: domains by experts.
fn domains(report: &Report, layers: &[(usize, &Experts)], count: usize) -> String {
    let names: Vec<String> = (0..count).map(|expert| expert.to_string()).collect();
    let header: Vec<&str> = std::iter::once("layer, text").chain(names.iter().map(String::as_str)).collect();
    let row = |layer: usize, experts: &Experts, text: usize| -> Vec<String> {
        let shares = (0..count).map(|expert| percent(experts.share(text, expert)));
        std::iter::once(format!("{layer}, {}", report.texts[text].name)).chain(shares).collect()
    };
    let texts = 0..report.texts.len();
    let rows: Vec<Vec<String>> = layers
        .iter()
        .flat_map(|&(layer, experts)| texts.clone().map(move |text| row(layer, experts, text)))
        .collect();
    output::table(&header, &rows)
}

fn specialised(report: &Report, layers: &[(usize, &Experts)]) -> Vec<Vec<String>> {
    let row = |layer: usize, over: smolt_infer::probe::OverActivated| {
        let name = format!("{layer}, {}", report.texts[over.text].name);
        vec![name, over.expert.to_string(), percent(over.share), format!("{:.2} times", over.lift)]
    };
    let all = layers
        .iter()
        .flat_map(|(layer, experts)| experts.over_activated().into_iter().map(move |over| (*layer, over)));
    all.map(|(layer, over)| row(layer, over)).collect()
}
