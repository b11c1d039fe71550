//! Promise: a network learns from samples, or from a teacher alone; a run that is killed goes on to the same bytes, at any number of
//! threads; the file that comes out opens and computes what was measured.

use engine::Images;
use engine::training::{AnyRecipe, NetworkRecipe, TrainedNetwork, TrainingEvent, train_network};
use eval::Classifier;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tempfile::TempDir;

const RECIPE: &str = r#"
[network]
input = [2, 6, 6]
classes = 3
widths = [4, 6]
blocks = 1

[data]
train = ["train_x_150x6x6x2_u8.bin"]
valid = ["valid_x_60x6x6x2_u8.bin"]
preprocess = { scale = 0.00392156862745098, mean = [0.5], std = [0.25] }

[training]
epochs = 3
batch = 16
rate = 0.1
warmup = 3
crop = 1
flip = true
smoothing = 0.05
statistics = 4
"#;

/// Blobs: class 0 bright above, class 1 bright below, class 2 bright in the second channel; noise on top.
fn prepare(folder: &Path, text: &str) -> NetworkRecipe {
    for (name, count) in [("train", 150), ("valid", 60)] {
        let noise = testkit::values(name, count * 72, 0.25);
        let label = |at: usize| (at * 7 + at / 5) % 3;
        let pixel = |at: usize| {
            let (sample, row, channel) = (at / 72, at % 72 / 12, at % 2);
            let bright = [row < 3 && channel == 0, row >= 3 && channel == 0, channel == 1][label(sample)];
            (100.0 + if bright { 60.0 } else { 0.0 } + noise[at]) as u8
        };
        let pixels: Vec<u8> = (0..count * 72).map(pixel).collect();
        let labels: Vec<u8> = (0..count).map(|at| label(at) as u8).collect();
        fs::write(folder.join(format!("{name}_x_{count}x6x6x2_u8.bin")), pixels).expect("samples");
        fs::write(folder.join(format!("{name}_y_{count}_u8.bin")), labels).expect("labels");
    }
    fs::write(folder.join("recipe.toml"), text).expect("a recipe");
    match AnyRecipe::load(&folder.join("recipe.toml")).expect("a sound recipe") {
        AnyRecipe::Network(recipe) => *recipe,
        AnyRecipe::Decoder(_) => panic!("a network's recipe"),
    }
}

/// Trains on so many threads; the run dies after step `dies`, if given.
fn trained(
    recipe: &NetworkRecipe,
    folder: &Path,
    output: &Path,
    threads: usize,
    dies: Option<usize>,
) -> Option<TrainedNetwork> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let mut steps = 0;
    let run = catch_unwind(AssertUnwindSafe(|| {
        pool.install(|| {
            train_network(recipe, folder, output, &mut |event| {
                if let TrainingEvent::Learned { report, .. } = event {
                    steps = report.step;
                    assert!(Some(report.step) != dies, "killed");
                }
            })
        })
    }));
    assert_eq!(run.is_err(), dies.is_some(), "after {steps} steps");
    run.ok().map(|trained| trained.expect("training succeeds"))
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes_at_any_number_of_threads() {
    let folder = TempDir::new().expect("a folder");
    let recipe = prepare(folder.path(), RECIPE);
    let [straight, resumed] = ["straight.onnx", "resumed.onnx"].map(|name| folder.path().join(name));
    let whole = trained(&recipe, folder.path(), &straight, 2, None).expect("a network");
    assert_eq!((whole.steps, whole.samples), (27, 150));
    assert!(whole.accuracy.expect("labels").value() > 0.9, "{whole:?}");
    trained(&recipe, folder.path(), &resumed, 1, Some(14));
    assert!(!resumed.exists());
    trained(&recipe, folder.path(), &resumed, 1, None);
    assert!(fs::read(&straight).expect("a file") == fs::read(&resumed).expect("a file"), "other bytes");

    let opened = import::open(&straight).expect("it opens");
    let graph = opened.model.graph().expect("a graph");
    let network = opened.network.as_ref().expect("a file");
    let preprocess = engine::preprocess_of(&network.file).expect("the file says how samples come into its range");
    let valid = [folder.path().join(&recipe.data.valid[0])];
    let samples = Images::open(&valid, graph, &preprocess).expect("samples");
    let mut read = Classifier::new(graph, &opened.model.weights, exec::Options::default()).expect("runs");
    let mut beside = Classifier::new(graph, &opened.model.weights, exec::Options::default()).expect("runs");
    let found = eval::accuracy(&mut read, Some(&mut beside), &samples, usize::MAX, &mut |_| {}).expect("measured");
    assert_eq!(found.top1, whole.accuracy, "what was written is what was measured");
    let against = found.against.expect("a reference");
    assert_eq!((against.agreement.hits, against.lost.map(|l| l.value)), (60, Some(0.0)));
}

#[test]
fn a_student_learns_from_its_teacher_alone() {
    let folder = TempDir::new().expect("a folder");
    let teacher = prepare(folder.path(), RECIPE);
    trained(&teacher, folder.path(), &folder.path().join("teacher.onnx"), 2, None);
    let distill = "[training.distill]\nshare = 1.0\nfeatures = [\"stage1.block1.relu2\", \"stem.norm\"]\n";
    let text = RECIPE.replace("[network]", "teacher = \"teacher.onnx\"\n\n[network]").replace("[4, 6]", "[3, 5]");
    let mut student = prepare(folder.path(), &format!("{text}{distill}"));
    fs::remove_file(folder.path().join("train_y_150_u8.bin")).expect("labels");
    let made = trained(&student, folder.path(), &folder.path().join("student.onnx"), 2, None).expect("a network");
    assert!(made.accuracy.expect("labels").value() > 0.9, "{made:?}");
    student.teacher = None;
    let refused = |recipe: &NetworkRecipe| {
        let output = folder.path().join("none.onnx");
        let _ = fs::remove_dir_all(folder.path().join("none.onnx.training"));
        train_network(recipe, folder.path(), &output, &mut |_| {}).expect_err("refused").to_string()
    };
    assert!(refused(&student).contains("`teacher` and"));
    let distill = student.training.distill.take();
    assert!(refused(&student).contains("no labels"));
    (student.teacher, student.training.distill) = (Some("teacher.onnx".into()), distill);
    if let Some(distill) = &mut student.training.distill {
        distill.features = vec!["scores".into()];
    }
    assert!(refused(&student).contains("attention map"));
    student.data.train = student.data.valid.clone();
    student.training.batch = 61;
    (student.teacher, student.training.distill) = (None, None);
    assert!(refused(&student).contains("do not fill a batch"));
    if let Some(network) = &mut student.network {
        network.classes = 2;
    }
    assert!(refused(&student).contains("label 2"));
}

/// Prunes and recovers the network that [`RECIPE`] trains.
#[test]
fn recovery_is_a_step_that_resumes_and_leaves_nothing_behind() {
    let folder = TempDir::new().expect("a folder");
    let recipe = prepare(folder.path(), RECIPE);
    let source = folder.path().join("source.onnx");
    trained(&recipe, folder.path(), &source, 2, None);
    let steps = "[[step]]\nprune = { macs = 0.5 }\n[[step]]\nrecover = { epochs = 2, batch = 16, rate = 0.05, \
                 statistics = 4, distill = { share = 0.5 } }\n";
    let recipe_of = |text: &str| plan::Recipe::parse(text).expect("a sound recipe");
    let imported = import::open(&source).expect("it opens");
    let graph = imported.model.graph().expect("a graph");
    let preprocess = recipe.data.preprocess.clone().expect("given");
    let open = |name: &str| Images::open(&[folder.path().join(name)], graph, &preprocess).expect("samples");
    let (learn, valid) = (open("train_x_150x6x6x2_u8.bin"), open("valid_x_60x6x6x2_u8.bin"));
    let run = |name: &str, progress: &dyn engine::Progress, learn: Option<&Images>| {
        let options = engine::Options {
            examples: learn.map(|l| l as &dyn exec::Examples),
            valid: Some(&valid),
            threads: Some(2),
            ..Default::default()
        };
        let plan = engine::plan(&imported, &recipe_of(steps), &options).expect("a plan");
        engine::compress(&imported, &plan, &folder.path().join(name), &options, progress)
    };
    let refused = run("none.onnx", &engine::Quiet, None).expect_err("no data").to_string();
    assert!(refused.contains("recover") && refused.contains("--data"), "{refused}");
    let made = run("straight.onnx", &engine::Quiet, Some(&learn)).expect("recovers");
    let network = made.journal.network.expect("a network");
    let accuracy = network.accuracy.expect("held-out samples");
    assert!(network.after.total_macs() * 2 <= network.before.total_macs() + 1000, "{:?}", network.after);
    assert!(accuracy.top1.expect("labels").value() > 0.9, "{accuracy:?}");
    assert_eq!(network.steps.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["prune", "recover"]);

    let dies = Dies::default();
    let killed = catch_unwind(AssertUnwindSafe(|| run("resumed.onnx", &dies, Some(&learn)).map(|_| ())));
    assert!(killed.is_err() && !folder.path().join("resumed.onnx").exists());
    let beside = |what: &str| {
        let names = fs::read_dir(folder.path()).expect("a folder").flatten().map(|e| e.file_name());
        names.filter(|name| name.to_string_lossy().contains(what)).count()
    };
    assert_eq!(beside("resumed.onnx.recover-"), 1);
    run("resumed.onnx", &engine::Quiet, Some(&learn)).expect("goes on");
    let bytes = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    assert!(bytes("straight.onnx") == bytes("resumed.onnx"), "other bytes");
    assert_eq!(beside(".recover-"), 0);
}

/// Both orders of pruning and quantization, beside each alone.
#[test]
fn orders_are_measured_on_the_same_samples() {
    let folder = TempDir::new().expect("a folder");
    let recipe = prepare(folder.path(), RECIPE);
    let source = folder.path().join("source.onnx");
    trained(&recipe, folder.path(), &source, 2, None);
    let imported = import::open(&source).expect("it opens");
    let (graph, preprocess) =
        (imported.model.graph().expect("a graph"), recipe.data.preprocess.clone().expect("given"));
    let open = |name: &str| Images::open(&[folder.path().join(name)], graph, &preprocess).expect("samples");
    let (learn, valid) = (open("train_x_150x6x6x2_u8.bin"), open("valid_x_60x6x6x2_u8.bin"));
    let options = engine::Options {
        data: Some(&learn),
        examples: Some(&learn),
        valid: Some(&valid),
        threads: Some(2),
        ..Default::default()
    };
    let steps = |text: &str| plan::Recipe::parse(text).expect("a sound recipe").steps;
    let both = steps("[[step]]\nprune = { macs = 0.6 }\n[[step]]\nquantize = {}\n");
    let found = engine::order(&imported, &both, &options, &engine::Quiet).expect("measured");
    assert_eq!(found.orders[0].steps, "prune-quantize");
    assert_eq!(found.orders[1].steps, "quantize-prune");
    assert!(found.alone.iter().all(|alone| alone.accuracy.is_some()), "{found:?}");
    assert!(found.orders[0].accuracy.is_some(), "{found:?}");
    assert_eq!(found.advantage.is_some(), found.orders[1].accuracy.is_some(), "{found}");
    let refused = engine::order(&imported, &both[..1], &options, &engine::Quiet).expect_err("one step").to_string();
    assert!(refused.contains("two steps"), "{refused}");
}

/// Panics in the second epoch of recovery, as a killed process would stop there.
#[derive(Default)]
struct Dies(std::sync::atomic::AtomicUsize);

impl engine::Progress for Dies {
    fn begin(&self, stage: &str, _total: u64, _unit: engine::Unit) {
        let done = if stage == "recover" { 0 } else { usize::MAX / 2 };
        self.0.store(done, std::sync::atomic::Ordering::SeqCst);
    }

    fn advance(&self, _amount: u64) {
        assert!(self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) != 12, "killed");
    }

    fn end(&self) {}
}
