//! Mixed precision on a tiny model: budgets kept to the byte, plans that can be edited, the smallest file of a divergence.

mod common;

use common::{text, write_model};
use engine::{Calibration, EngineError, Options, Outcome, Planner, Quiet, Text, compress, plan, smallest};
use graph::Role;
use import::Imported;
use plan::{Goal, Plan, PlanError, Recipe};
use std::path::PathBuf;
use tempfile::TempDir;

struct Home {
    folder: TempDir,
    text: Text,
    calibration: Calibration,
}

impl Home {
    fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        write_model(&folder.path().join("model"));
        let text = Text { name: "days".into(), text: text() };
        let model = import::open(&folder.path().join("model")).unwrap();
        let spec = recipe("bpw", "9").calibration;
        let calibration = Calibration::of(&model, std::slice::from_ref(&text), &spec).unwrap();
        Home { folder, text, calibration }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn model(&self) -> Imported {
        import::open(&self.path("model")).unwrap()
    }

    fn options(&self) -> Options<'_> {
        let calibration = Some(&self.calibration);
        Options { threads: Some(2), text: Some(&self.text), calibration, ..Options::default() }
    }

    fn plan(&self, recipe: &Recipe) -> Result<Plan, EngineError> {
        plan(&self.model(), recipe, &self.options())
    }

    fn run(&self, plan: &Plan, out: &str) -> Outcome {
        compress(&self.model(), plan, &self.path(out), &self.options(), &Quiet).unwrap()
    }
}

/// A recipe with calibration text.
fn recipe(goal: &str, value: &str) -> Recipe {
    let goal = match goal {
        "bpw" => format!("target = \"{value}bpw\""),
        "kld" => format!("max-kld = {value}"),
        _ => format!("max-size = \"{value}B\""),
    };
    Recipe::parse(&format!("{goal}\n[calibration]\ntext = [\"days\"]\nsamples = 12\nlength = 32")).unwrap()
}

fn in_folder(recipe: Recipe) -> Recipe {
    let output = plan::Output { format: Some(plan::Container::CompressedTensors), ..recipe.output };
    Recipe { output, ..recipe }
}

#[test]
fn budgets_are_kept_to_the_byte() {
    let home = Home::new();
    let mut losses = Vec::new();
    for (bits, out) in [("8", "8.gguf"), ("9", "9.gguf"), ("11", "11.gguf")] {
        let plan = home.plan(&recipe("bpw", bits)).unwrap();
        let most = bits.parse::<f64>().unwrap() * plan.parameters as f64 / 8.0;
        let spent = plan.spent.unwrap();
        assert!(spent.bound <= spent.loss && spent.validation.pairs > 3, "{spent:?}");
        assert!(spent.validation.rank_correlation > 0.7, "{spent:?}");
        let journal = home.run(&plan, out).journal;
        assert_eq!(journal.proof.bytes, plan.prediction.artifact.0);
        assert!(journal.proof.bytes as f64 <= most && journal.proof.bytes as f64 > 0.93 * most, "{bits}: {journal:?}");
        losses.push((spent.loss, journal.proof.quality.unwrap().kld.mean.value));
    }
    assert!(losses.is_sorted_by(|a, b| a.0 > b.0 && a.1 > b.1), "{losses:?}");
}

#[test]
fn folders_keep_budgets_and_what_servers_join_stays_alike() {
    let home = Home::new();
    let mut seen = std::collections::BTreeSet::new();
    let least = home.plan(&in_folder(recipe("bpw", "1"))).unwrap_err();
    let EngineError::Plan(PlanError::Smallest { needs: least, .. }) = least else { panic!("{least}") };
    for more in [0, 4_000, 30_000] {
        let most = least.0 + more;
        let plan = home.plan(&in_folder(recipe("size", &most.to_string()))).unwrap();
        let of = |layer, role: Role| {
            plan.tensors.iter().find(|t| t.layer == Some(layer) && t.role == role.name()).unwrap().to
        };
        for layer in 0..2 {
            assert!(
                of(layer, Role::AttnQ) == of(layer, Role::AttnK) && of(layer, Role::AttnQ) == of(layer, Role::AttnV)
            );
            assert_eq!(of(layer, Role::FfnGate), of(layer, Role::FfnUp));
        }
        seen.extend(plan.tensors.iter().map(|t| t.to.to_string()));
        let bytes = home.run(&plan, &more.to_string()).journal.proof.bytes;
        assert!(bytes == plan.prediction.artifact.0 && bytes <= most, "{bytes} of {most}");
    }
    assert!(seen.len() > 2, "{seen:?}");
}

#[test]
fn a_budget_that_cannot_be_says_the_smallest_that_can() {
    let home = Home::new();
    for wrap in [|r| r, in_folder] {
        let error = home.plan(&wrap(recipe("bpw", "0.5"))).unwrap_err();
        let EngineError::Plan(PlanError::Smallest { needs, .. }) = &error else { panic!("{error}") };
        let exact = home.plan(&wrap(recipe("size", &needs.0.to_string()))).unwrap();
        assert!(exact.prediction.artifact <= *needs, "{exact:?}");
        let less = home.plan(&wrap(recipe("size", &(needs.0 - 100).to_string())));
        assert!(matches!(less, Err(EngineError::Plan(PlanError::Smallest { .. }))), "{less:?}");
    }
    let error = home.plan(&recipe("kld", "1e-12")).map(|plan| plan.prediction.artifact);
    assert!(error.is_ok(), "everything as it is diverges by nothing: {error:?}");
}

#[test]
fn a_mixed_plan_is_carried_out_as_edited() {
    let home = Home::new();
    let plan = home.plan(&recipe("bpw", "9")).unwrap();
    let mut edited = Plan::load(&plan.to_toml()).unwrap();
    assert_eq!(edited, plan);
    let changed = edited.tensors.iter_mut().find(|t| t.name.ends_with("0.mlp.down_proj.weight")).unwrap();
    assert!(changed.reason.contains("q8_0"), "{}", changed.reason);
    changed.to = plan::encoding("q5_1").unwrap();
    let edited = engine::revise(&home.model(), edited, &home.options()).unwrap();
    let journal = home.run(&edited, "out.gguf").journal;
    let entry = journal.tensors.iter().find(|t| t.name.ends_with("0.mlp.down_proj.weight")).unwrap();
    assert_eq!(plan::encoding_name(&entry.encoding), "q5_1");
    assert_eq!(journal.proof.bytes, edited.prediction.artifact.0);
}

#[test]
fn the_same_plan_at_any_number_of_threads() {
    let home = Home::new();
    let tensors = |threads| {
        let options = Options { threads: Some(threads), ..home.options() };
        plan(&home.model(), &recipe("bpw", "8"), &options).unwrap().tensors
    };
    assert!(tensors(1) == tensors(3));
}

#[test]
fn the_smallest_file_keeps_its_divergence() {
    let home = Home::new();
    let (model, options) = (home.model(), home.options());
    let mut sizes = Vec::new();
    for (most, out) in [("0.02", "a.gguf"), ("0.002", "b.gguf")] {
        let asked = recipe("kld", most);
        let planner = Planner::new(&model, &asked, &options, &Quiet).unwrap();
        let most = most.parse().unwrap();
        let outcome = smallest(&planner, most, &home.path(out), &Quiet).unwrap();
        let measured = outcome.journal.proof.quality.unwrap().kld.mean.value;
        assert!(measured <= most, "{measured}");
        assert_eq!((outcome.plan.recipe.goal, outcome.files), (Goal::Divergence(most), vec![home.path(out)]));
        assert!(outcome.journal.notes.iter().any(|note| note.what.starts_with("trial 1")));
        sizes.push(outcome.journal.proof.bytes);
    }
    assert!(sizes[0] < sizes[1], "{sizes:?}");
    let blind = Options { calibration: None, ..options };
    let error = plan(&model, &recipe("kld", "0.02"), &blind).unwrap_err();
    assert!(matches!(error, EngineError::Plan(PlanError::NoSensitivity)), "{error}");
}
