//! RoPE in both spellings: `rope_parameters` (transformers 5, for Gemma 3 one table per kind of layer) and `rope_theta`
//! beside `rope_scaling` (4).

use super::fields::{Fields, parse, same};
use super::{shorten, unsupported};
use crate::config::{FieldError, ModelConfig, ModelType, RopeScaling, RopeType};
use serde_json::{Map, Value, json};

type Result<T = ()> = std::result::Result<T, FieldError>;

/// Tables by kind of layer.
const BY_LAYER: [&str; 2] = ["full_attention", "sliding_attention"];

pub(super) fn read(f: &mut Fields, c: &mut ModelConfig) -> Result {
    let mut theta = f.raw("rope_theta");
    let mut local = c.rope_local_base_freq.and_then(|_| f.raw("rope_local_base_freq"));
    f.take("partial_rotary_factor", &mut c.partial_rotary_factor)?;
    let mut scalings: Vec<RopeScaling> = Vec::new();
    let mut silent = true;
    for field in ["rope_parameters", "rope_scaling"] {
        let Some(value) = f.raw(field) else { continue };
        let Value::Object(mut table) = value else {
            return Err(unsupported(field, &value, "a table is expected"));
        };
        if c.rope_local_base_freq.is_some() && table.keys().any(|key| BY_LAYER.contains(&key.as_str())) {
            if let Some(Value::Object(sliding)) = table.remove(BY_LAYER[1]) {
                local_table(&format!("{field}.{}", BY_LAYER[1]), &sliding, &mut local)?;
            }
            table = match table.remove(BY_LAYER[0]) {
                Some(Value::Object(full)) => full,
                _ => Map::new(),
            };
        }
        silent = false;
        scalings.extend(read_table(field, table, &mut theta, c)?);
    }
    if let Some(theta) = theta {
        c.rope_theta = parse("rope_theta", theta)?;
    }
    if let Some(to) = &mut c.rope_local_base_freq
        && let Some(local) = local
    {
        *to = parse("rope_local_base_freq", local)?;
    }
    if c.model_type == ModelType::DeepseekV3 {
        f.take("rope_interleave", &mut c.rope_interleaved)?;
    }
    f.fixed("rope_interleaved", &json!(false))?;
    if let [a, b] = &scalings[..]
        && a != b
    {
        return Err(FieldError::new("rope_scaling", "contradicts `rope_parameters`: remove one of them"));
    }
    c.rope_scaling = match c.model_type {
        ModelType::GptOss if silent => Some(gpt_oss(f)?),
        _ => scalings.pop(),
    };
    Ok(())
}

/// What transformers has for a gpt-oss that says nothing of its RoPE.
fn gpt_oss(f: &Fields) -> Result<RopeScaling> {
    if f.is_null("rope_scaling") {
        let reason = "is null, which is plain RoPE to transformers 4 and YaRN to 5: write `rope_parameters`";
        return Err(FieldError::new("rope_scaling", reason));
    }
    Ok(RopeScaling {
        rope_type: RopeType::Yarn,
        factor: 32.0,
        original_max_position_embeddings: Some(4096),
        beta_fast: Some(32.0),
        beta_slow: Some(1.0),
        attention_factor: None,
        mscale: None,
        mscale_all_dim: None,
        truncate: Some(false),
        low_freq_factor: None,
        high_freq_factor: None,
    })
}

/// The table of the layers with a base of their own: a base, nothing else.
fn local_table(name: &str, table: &Map<String, Value>, local: &mut Option<Value>) -> Result {
    for (key, entry) in table {
        match key.as_str() {
            "rope_theta" => set(&format!("{name}.rope_theta"), entry, local)?,
            "rope_type" if entry == "default" => {}
            _ => return Err(unsupported(&format!("{name}.{}", shorten(key)), entry, "only a base is")),
        }
    }
    Ok(())
}

fn set(name: &str, entry: &Value, to: &mut Option<Value>) -> Result {
    match to {
        Some(known) if !same(known, entry) => {
            Err(unsupported(name, entry, "it contradicts another of that name"))
        }
        _ => {
            *to = Some(entry.clone());
            Ok(())
        }
    }
}

/// One table: base and scaling.
fn read_table(
    field: &str,
    mut table: Map<String, Value>,
    theta: &mut Option<Value>,
    c: &mut ModelConfig,
) -> Result<Option<RopeScaling>> {
    table.retain(|_, entry| !entry.is_null());
    let name = |key: &str| format!("{field}.{}", shorten(key));
    if let Some(entry) = table.remove("rope_theta") {
        set(&name("rope_theta"), &entry, theta)?;
    }
    if let Some(entry) = table.remove("partial_rotary_factor") {
        c.partial_rotary_factor = parse(&name("partial_rotary_factor"), entry)?;
    }
    let (new, old) = (table.remove("rope_type"), table.remove("type"));
    let key = if new.is_some() { "rope_type" } else { "type" };
    let kind: RopeType = match new.or(old) {
        Some(kind) if kind == "default" => return nothing_else(field, &table),
        None => return nothing_else(field, &table),
        Some(kind) => match kind.as_str().map(str::parse) {
            // What transformers calls dynamic depends on the length of each pass, so that packed documents would not be
            // what they are alone.
            Some(Ok(RopeType::Ntk | RopeType::Dynamic)) | Some(Err(_)) | None => {
                return Err(unsupported(&name(key), &kind, "linear, yarn and llama3 are"));
            }
            Some(Ok(kind)) => kind,
        },
    };
    let mut f = Fields::new(table);
    let mut get = |key: &str| f.get::<f64>(key).map_err(|e| FieldError::new(&name(key), e.reason));
    let (factor, attention_factor) = (get("factor")?, get("attention_factor")?);
    let yarn = [get("beta_fast")?, get("beta_slow")?, get("mscale")?, get("mscale_all_dim")?];
    let [beta_fast, beta_slow, mscale, mscale_all_dim] = yarn;
    let (low_freq_factor, high_freq_factor) = (get("low_freq_factor")?, get("high_freq_factor")?);
    let scaling = RopeScaling {
        rope_type: kind,
        factor: factor.ok_or_else(|| FieldError::new(&name("factor"), "is missing: add it"))?,
        original_max_position_embeddings: f
            .get("original_max_position_embeddings")
            .map_err(|e| FieldError::new(&name("original_max_position_embeddings"), e.reason))?,
        beta_fast,
        beta_slow,
        attention_factor,
        mscale,
        mscale_all_dim,
        truncate: f.get("truncate").map_err(|e| FieldError::new(&name("truncate"), e.reason))?,
        low_freq_factor,
        high_freq_factor,
    };
    f.finish().map_err(|e| FieldError::new(&name(&e.field), e.reason))?;
    Ok(Some(scaling))
}

/// The table of a RoPE that is not scaled.
fn nothing_else(field: &str, table: &Map<String, Value>) -> Result<Option<RopeScaling>> {
    match table.iter().next() {
        Some((key, entry)) => {
            let name = format!("{field}.{}", shorten(key));
            Err(unsupported(&name, entry, "the RoPE of this table is not scaled, or give its rope_type"))
        }
        None => Ok(None),
    }
}

impl ModelConfig {
    /// This model with its RoPE stretched as a `rope_scaling` of `config.json` says (spec POS-06), for sequences of `factor`
    /// times the original length: what it was trained on, where the table does not say it.
    ///
    /// # Errors
    /// What `config.json` could not say either.
    pub fn stretched(mut self, scaling: &str) -> Result<ModelConfig> {
        const FIELD: &str = "rope_scaling";
        let broken = |e: serde_json::Error| FieldError::new(FIELD, format!("is not a JSON object: {e}"));
        let table: Map<String, Value> = serde_json::from_str(scaling).map_err(broken)?;
        let mut theta = None;
        let Some(mut scaling) = read_table(FIELD, table, &mut theta, &mut self)? else {
            return Err(FieldError::new(FIELD, "stretches nothing: give it a rope_type and a factor"));
        };
        if let Some(theta) = theta {
            self.rope_theta = parse("rope_theta", theta)?;
        }
        let before = self.rope_scaling.take().and_then(|scaling| scaling.original_max_position_embeddings);
        let trained = before.unwrap_or(self.max_position_embeddings);
        let original = scaling.original_max_position_embeddings.unwrap_or(trained);
        if scaling.rope_type != RopeType::Linear {
            scaling.original_max_position_embeddings = Some(original);
        }
        self.max_position_embeddings = (scaling.factor * original as f64) as usize;
        self.rope_scaling = Some(scaling);
        self.validate().map(|()| self)
    }
}

/// `rope_parameters`, `rope_theta`, `rope_scaling` and, where a type has it, the local base.
pub(super) fn write(c: &ModelConfig, put: &mut impl FnMut(&str, Value)) {
    let scaling = match &c.rope_scaling {
        Some(scaling) => match serde_json::to_value(scaling) {
            Ok(Value::Object(table)) => table.into_iter().filter(|(_, entry)| !entry.is_null()).collect(),
            _ => Map::new(),
        },
        None => Map::new(),
    };
    let mut global = Map::from_iter([("rope_theta".to_owned(), json!(c.rope_theta))]);
    match scaling.is_empty() {
        true => drop(global.insert("rope_type".into(), json!("default"))),
        false => global.extend(scaling.clone()),
    }
    let of_one = Value::Object(global.clone());
    match c.rope_local_base_freq {
        Some(local) => {
            let sliding = json!({"rope_theta": local, "rope_type": "default"});
            put("rope_parameters", json!({"full_attention": global, "sliding_attention": sliding}));
            put("rope_local_base_freq", json!(local));
        }
        None => put("rope_parameters", of_one),
    }
    put("rope_scaling", if scaling.is_empty() { Value::Null } else { Value::Object(scaling) });
    put("rope_theta", json!(c.rope_theta));
    if c.model_type == ModelType::DeepseekV3 {
        put("rope_interleave", json!(c.rope_interleaved));
    }
}
