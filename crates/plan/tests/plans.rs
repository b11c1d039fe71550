//! Recipes to plans on a model small enough to read.

use codec::{BlockFormat, Dtype, Encoding};
use graph::{Body, Model, Place, Role, Weight, WeightStore};
use plan::{Bytes, Container, CostModel, Goal, Plan, PlanError, Preset, Recipe, Setting, resolve};

/// Two layers without a graph: plans need weights and their places only.
fn model() -> Model {
    let mut weights = WeightStore::default();
    let mut add = |name: &str, place: Place, shape: &[usize]| {
        let data = vec![0.5; shape.iter().product()];
        weights.insert(Weight::from_f32(name, place, shape.to_vec(), &data).unwrap());
    };
    add("model.embed_tokens.weight", Place::outer(Role::TokenEmbed), &[64, 256]);
    for layer in 0..2 {
        let at = |role| Place::layer(layer, role);
        add(&format!("model.layers.{layer}.input_layernorm.weight"), at(Role::AttnNorm), &[256]);
        add(&format!("model.layers.{layer}.self_attn.v_proj.weight"), at(Role::AttnV), &[128, 256]);
        add(&format!("model.layers.{layer}.self_attn.v_proj.bias"), at(Role::AttnV).bias(), &[128]);
        add(&format!("model.layers.{layer}.mlp.down_proj.weight"), at(Role::FfnDown), &[256, 96]);
    }
    add("lm_head.weight", Place::outer(Role::OutputHead), &[64, 256]);
    Model { body: Body::Unknown { reason: "a test".into() }, weights }
}

fn try_plan(recipe: &str) -> Result<Plan, PlanError> {
    let costs = CostModel::default();
    let setting = Setting {
        threads: 2,
        overhead: 1000,
        proof_tokens: 0,
        context: 512,
        resident: 0,
        learning: None,
        costs: &costs,
    };
    resolve(&model(), &Recipe::parse(recipe).unwrap(), &setting)
}

fn after(plan: &Plan, name: &str) -> Encoding {
    plan.tensors.iter().find(|t| t.name == name).unwrap().to
}

#[test]
fn a_plan_says_what_becomes_of_every_weight() {
    let recipe = r#"
        preset = "q4_k_m"

        [[rule]]
        match = "re:layers\\.1\\."
        encoding = "q8_0"

        [[rule]]
        match = "attn_v"
        encoding = "q6_k"

        [proof]
        min-top1 = 0.9
    "#;
    let plan = try_plan(recipe).unwrap();
    insta::assert_snapshot!(plan.to_toml());
    assert_eq!(Plan::load(&plan.to_toml()).unwrap(), plan);
    assert_eq!(Plan::load(&serde_json::to_string(&plan).unwrap()).unwrap(), plan);
}

#[test]
fn figures_are_those_of_the_encodings() {
    let plan = try_plan(r#"preset = "q8_0""#).unwrap();
    let matrices = 2 * 64 * 256 + 2 * 128 * 256 + 2 * 256 * 96;
    let vectors = 2 * 256 + 2 * 128;
    assert_eq!(plan.bytes_after(), matrices / 32 * 34 + vectors * 4);
    assert_eq!(plan.bytes_before(), (matrices + vectors) * 4);
    assert_eq!(plan.prediction.artifact, Bytes(plan.bytes_after() + 1000));
    assert!((plan.bpw() - plan.prediction.artifact.0 as f64 * 8.0 / (matrices + vectors) as f64).abs() < 1e-12);
    let roles = plan.by_role();
    assert_eq!((roles["ffn_down"].tensors, roles["ffn_down"].elements), (2, 2 * 256 * 96));
    assert_eq!(roles["attn_v_bias"].encodings["f32"], 2);
    assert_eq!(roles.values().map(|r| r.bytes_after).sum::<u64>(), plan.bytes_after());
}

#[test]
fn a_budget_takes_the_best_preset_that_fits() {
    let mix = |recipe: &str| try_plan(recipe).map(|p| (p.mix.clone(), p.prediction.artifact.0));
    let (_, q6) = mix(r#"preset = "q6_k""#).unwrap();
    assert_eq!(mix(&format!(r#"max-size = "{q6}B""#)).unwrap(), ("Q6_K".into(), q6));
    assert!(mix(&format!(r#"max-size = "{}B""#, q6 - 1)).unwrap().1 < q6);
    let eight = mix(r#"target = "9bpw""#).unwrap();
    assert_eq!(eight.0, "Q8_0");
    let error = mix(r#"max-size = "2kB""#).unwrap_err();
    let smallest = mix(r#"preset = "q2_k""#).unwrap().1;
    assert!(matches!(error, PlanError::Budget { needs: Bytes(n), .. } if n == smallest), "{error}");
}

#[test]
fn what_cannot_be_done_is_an_error_that_says_so() {
    let error = |recipe: &str| try_plan(recipe).unwrap_err().to_string();
    let rule = |pattern: &str, encoding: &str| {
        format!("preset = \"q4_k_m\"\n[[rule]]\nmatch = \"{pattern}\"\nencoding = \"{encoding}\"")
    };
    insta::assert_snapshot!(error(&rule("atn_v", "q8_0")), @"the rule `atn_v` matches no weight (`tinier inspect` lists them); did you mean `attn_v`?");
    insta::assert_snapshot!(error(&rule("ffn_down", "q4_k")), @"weight `model.layers.0.mlp.down_proj.weight`: q4_K needs rows whose length is a multiple of 256, got 96");
    insta::assert_snapshot!(error(&rule("attn_v", "int8-channel")), @"weight `model.layers.0.self_attn.v_proj.weight` would be int8-channel, which a gguf artifact cannot hold; take another encoding or output format");
    insta::assert_snapshot!(error("preset = \"q4_k_m\"\n[output]\nformat = \"safetensors\""), @"the preset `Q4_K_M` makes gguf artifacts, the recipe's output is safetensors; change one of them");
    insta::assert_snapshot!(error("[[rule]]\nmatch = \"attn_v\"\nencoding = \"f16\""), @"no output format: the recipe has no preset to follow; give `format` under `[output]`");
    insta::assert_snapshot!(error("[output]\nformat = \"safetensors\""), @"nothing to do: no weight would change under `keep`");
}

#[test]
fn an_edited_plan_is_worked_out_again() {
    let costs = CostModel::default();
    let setting =
        Setting { threads: 1, overhead: 0, proof_tokens: 0, context: 512, resident: 0, learning: None, costs: &costs };
    let plan = try_plan(r#"preset = "q8_0""#).unwrap();
    let name = "lm_head.weight";
    let mut edited = plan.clone();
    edited.tensors.iter_mut().find(|t| t.name == name).unwrap().to = Encoding::Block(BlockFormat::Q4_0);
    let revised = Plan::load(&edited.to_toml()).unwrap().revise(&model(), &setting).unwrap();
    assert_eq!(after(&revised, name), Encoding::Block(BlockFormat::Q4_0));
    assert_eq!(revised.bytes_after(), plan.bytes_after() - 64 * 256 / 32 * (34 - 18));

    let mut short = plan.clone();
    short.tensors.pop();
    assert!(matches!(short.revise(&model(), &setting), Err(PlanError::Missing { tensor }) if tensor == name));
    let mut stray = plan.clone();
    stray.tensors[0].name = "other".into();
    assert!(matches!(stray.revise(&model(), &setting), Err(PlanError::Stray { .. })));
    let mut other = plan.clone();
    other.tensors[0].from = Encoding::Plain(Dtype::F16);
    assert!(matches!(other.revise(&model(), &setting), Err(PlanError::OtherModel { .. })));
    let error = Plan::load(&plan.to_toml().replace("bytes-after", "byte-after")).unwrap_err().to_string();
    assert!(error.ends_with("did you mean `bytes-after`?"), "{error}");
}

#[test]
fn recipes_round_trip_and_refuse_what_they_do_not_know() {
    let full = Recipe::parse(
        "target = \"4.5bpw\"\n[[rule]]\nmatch = \"re:down\"\nencoding = \"Q6_K\"\n[output]\nformat = \"gguf\"\nsplit-size = \"2GB\"\n[proof]\ntext = \"a.txt\"\ncontext = 256\nmax-kld = 0.1",
    )
    .unwrap();
    assert_eq!(Recipe::parse(&full.to_toml()).unwrap(), full);
    assert_eq!((full.output.format, full.output.split_size), (Some(Container::Gguf), Some(Bytes(2_000_000_000))));
    let preset: Preset = "q4_k_m".parse().unwrap();
    assert_eq!(Recipe::parse(&Recipe::new(Goal::Preset(preset)).to_toml()).unwrap().goal, Goal::Preset(preset));

    let ends = |recipe: &str, expected: &str| {
        let error = Recipe::parse(recipe).unwrap_err().to_string();
        assert!(error.contains(expected), "{recipe}: {error}");
    };
    ends("presett = \"q8_0\"", "did you mean `preset`?");
    ends("preset = \"q8_0\"\n[proof]\nmin-top = 0.5", "did you mean `min-top1`?");
    ends("preset = \"q4_km\"", "did you mean `Q4_K_M`?");
    ends("[[rule]]\nmatch = \"a\"\nencoding = \"q5k\"", "did you mean `q5_k`?");
    ends("[[rule]]\nmatch = \"re:(\"\nencoding = \"q5_k\"", "regex parse error");
    ends("preset = \"q8_0\"\ntarget = \"4bpw\"", "`preset` and `target`");
    ends("[proof]\nmin-top1 = 0.9", "asks for nothing");
    ends("max-size = \"12 parsecs\"", "is not a size");
    ends("preset = \"q8_0\"\n[output]\nformat = \"guff\"", "did you mean `gguf`?");
}
