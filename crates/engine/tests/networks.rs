//! Promise: a network learns from samples, or from a teacher alone; a run that is killed goes on to the same bytes, at any number of
//! threads; the file that comes out opens and computes what was measured.

use engine::training::{AnyRecipe, NetworkRecipe, TrainedNetwork, TrainingEvent, train_network};
use engine::{EngineError, Images};
use eval::Classifier;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
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

/// The network that [`RECIPE`] trains, and its samples.
struct Trained {
    folder: TempDir,
    imported: import::Imported,
    learn: Images,
    valid: Images,
}

impl Trained {
    fn new() -> Trained {
        let folder = TempDir::new().expect("a folder");
        let recipe = prepare(folder.path(), RECIPE);
        let source = folder.path().join("source.onnx");
        trained(&recipe, folder.path(), &source, 2, None);
        let imported = import::open(&source).expect("it opens");
        let graph = imported.model.graph().expect("a graph");
        let preprocess = recipe.data.preprocess.clone().expect("given");
        let open = |name: &str| Images::open(&[folder.path().join(name)], graph, &preprocess).expect("samples");
        let (learn, valid) = (open("train_x_150x6x6x2_u8.bin"), open("valid_x_60x6x6x2_u8.bin"));
        Trained { folder, imported, learn, valid }
    }

    fn options(&self) -> engine::Options<'_> {
        engine::Options {
            data: Some(&self.learn),
            examples: Some(&self.learn),
            valid: Some(&self.valid),
            threads: Some(2),
            ..Default::default()
        }
    }

    fn run(&self, name: &str, steps: &str, progress: &dyn engine::Progress) -> Result<plan::NetworkEntry, EngineError> {
        let recipe = plan::Recipe::parse(steps).expect("a sound recipe");
        let plan = engine::plan(&self.imported, &recipe, &self.options())?;
        let out = self.folder.path().join(name);
        let made = engine::compress(&self.imported, &plan, &out, &self.options(), progress)?;
        Ok(made.journal.network.expect("a network"))
    }

    /// Entries of the folder whose name holds this.
    fn beside(&self, what: &str) -> usize {
        let names = fs::read_dir(self.folder.path()).expect("a folder").flatten().map(|e| e.file_name());
        names.filter(|name| name.to_string_lossy().contains(what)).count()
    }

    /// Runs steps at once, and killed in the second epoch of one of its recoveries and gone on with: to the same bytes, and nothing is
    /// left behind.
    fn resumes(&self, steps: &str, killed_in: usize) -> plan::NetworkEntry {
        let made = self.run("straight.onnx", steps, &engine::Quiet).expect("runs");
        let dies = Dies::in_recovery(killed_in);
        let killed = catch_unwind(AssertUnwindSafe(|| self.run("resumed.onnx", steps, &dies).map(|_| ())));
        assert!(killed.is_err() && self.beside("resumed.onnx") == killed_in, "checkpoints alone");
        self.run("resumed.onnx", steps, &engine::Quiet).expect("goes on");
        let bytes = |name: &str| fs::read(self.folder.path().join(name)).expect("a file");
        assert!(bytes("straight.onnx") == bytes("resumed.onnx"), "other bytes");
        assert_eq!(self.beside(".recover-"), 0);
        made
    }
}

fn right(network: &plan::NetworkEntry) -> f64 {
    network.accuracy.as_ref().and_then(|a| a.top1).expect("labels").value()
}

#[test]
fn recovery_is_a_step_that_resumes_and_leaves_nothing_behind() {
    let net = Trained::new();
    let steps = "[[step]]\nprune = { macs = 0.5 }\n[[step]]\nrecover = { epochs = 2, batch = 16, rate = 0.05, \
                 statistics = 4, distill = { share = 0.5 } }\n";
    let plan = engine::plan(&net.imported, &plan::Recipe::parse(steps).expect("sound"), &net.options());
    let without = engine::Options { examples: None, ..net.options() };
    let out = net.folder.path().join("none.onnx");
    let refused = engine::compress(&net.imported, &plan.expect("a plan"), &out, &without, &engine::Quiet);
    let refused = refused.expect_err("no data").to_string();
    assert!(refused.contains("recover") && refused.contains("--data"), "{refused}");
    let made = net.resumes(steps, 1);
    assert!(made.after.total_macs() * 2 <= made.before.total_macs() + 1000, "{:?}", made.after);
    assert!(right(&made) > 0.9, "{:?}", made.accuracy);
    assert_eq!(made.steps.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["prune", "recover"]);
}

#[test]
fn channels_go_in_rounds_or_under_a_penalty() {
    let net = Trained::new();
    let recover = "recover = { epochs = 2, batch = 16, rate = 0.05, statistics = 4 }";
    let paces = [format!("gradual = {{ rounds = 2, {recover} }}"), format!("penalty = {{ most = 5.0, {recover} }}")];
    for (pace, killed_in) in paces.iter().zip([2, 1]) {
        let made = net.resumes(&format!("[[step]]\nprune = {{ macs = 0.5, {pace} }}\n"), killed_in);
        assert!(made.after.total_macs() * 2 <= made.before.total_macs(), "{pace}: {:?}", made.after);
        assert!(right(&made) > 0.9, "{pace}: {:?}", made.accuracy);
        let of = |side: fn(&plan::GroupEntry) -> usize| made.steps[0].groups.iter().map(side).sum::<usize>();
        let channels = |counters: &plan::Counters| counters.parameters;
        assert!(of(|g| g.after) < of(|g| g.before) && channels(&made.after) < channels(&made.before), "{pace}");
        fs::remove_file(net.folder.path().join("straight.onnx")).expect("a file");
        fs::remove_file(net.folder.path().join("resumed.onnx")).expect("a file");
    }
}

/// Zeros come while the network learns, by either score; what comes later leaves them.
#[test]
fn zeros_come_while_a_network_learns_and_stay() {
    let net = Trained::new();
    let recover = "epochs = 3, batch = 16, rate = 0.05, statistics = 4";
    for by in ["movement", "magnitude"] {
        let made = net.resumes(
            &format!(
                "[[step]]\nsparsify = {{ zeros = 0.75, by = \"{by}\", recover = {{ {recover} }} }}\n\
                 [[step]]\nrecover = {{ {recover} }}\n[[step]]\nquantize = {{}}\n[[step]]\nrecover = {{ {recover} }}\n"
            ),
            1,
        );
        let (_, share) = &made.steps[0].figures[0];
        assert!((share - 0.75).abs() < 0.01 && right(&made) > 0.85, "{by}: {share} {:?}", made.accuracy);
        let opened = import::open(&net.folder.path().join("straight.onnx")).expect("opens");
        let matrices =
            opened.model.weights.iter().filter(|(id, w)| w.shape.len() > 1 && opened.model.weights.grid(*id).is_some());
        for (_, weight) in matrices {
            let numbers = weight.read().expect("numbers");
            let zeros = numbers.iter().filter(|x| **x == 0.0).count();
            assert!(zeros * 100 >= numbers.len() * 74, "{by}: {} of {} in {}", zeros, numbers.len(), weight.name);
        }
        fs::remove_file(net.folder.path().join("straight.onnx")).expect("a file");
        fs::remove_file(net.folder.path().join("resumed.onnx")).expect("a file");
    }
}

/// The whole chain: the rounded network learns with fixed steps, and with steps of its own.
#[test]
fn a_rounded_network_learns_again() {
    let net = Trained::new();
    let recover = "epochs = 2, batch = 16, rate = 0.01, distill = { share = 0.5 }";
    for learn_steps in [false, true] {
        let steps = format!(
            "[[step]]\nprune = {{ macs = 0.5 }}\n[[step]]\nrecover = {{ {recover}, statistics = 4 }}\n\
             [[step]]\nquantize = {{}}\n[[step]]\nrecover = {{ {recover}, learn-steps = {learn_steps} }}\n"
        );
        let made = net.resumes(&steps, 2);
        assert!(right(&made) > 0.9, "{:?}", made.accuracy);
        let fusion = made.fusion.as_ref().expect("it is rounded");
        assert_eq!(fusion.in_float().count(), 0, "{fusion:?}");
        let opened = import::open(&net.folder.path().join("straight.onnx")).expect("opens");
        let grids = opened.model.weights.iter().filter(|(id, _)| opened.model.weights.grid(*id).is_some());
        assert!(grids.count() > 4, "weights are codes");
        fs::remove_file(net.folder.path().join("straight.onnx")).expect("a file");
        fs::remove_file(net.folder.path().join("resumed.onnx")).expect("a file");
    }
}

/// Both orders of pruning and quantization, beside each alone.
#[test]
fn orders_are_measured_on_the_same_samples() {
    let net = Trained::new();
    let steps = |text: &str| plan::Recipe::parse(text).expect("a sound recipe").steps;
    let both = steps("[[step]]\nprune = { macs = 0.6 }\n[[step]]\nquantize = {}\n");
    let found = engine::order(&net.imported, &both, &net.options(), &engine::Quiet).expect("measured");
    assert_eq!(found.orders[0].steps, "prune-quantize");
    assert_eq!(found.orders[1].steps, "quantize-prune");
    assert!(found.alone.iter().all(|alone| alone.accuracy.is_some()), "{found:?}");
    assert!(found.orders[0].accuracy.is_some(), "{found:?}");
    let right = found.orders.each_ref().map(|o| o.accuracy.as_ref().and_then(|a| a.top1).expect("both run").value());
    let advantage = found.advantage.expect("both run").value;
    assert!((advantage - (right[0] - right[1])).abs() < 1e-9, "{found}");
    let refused = engine::order(&net.imported, &both[..1], &net.options(), &engine::Quiet);
    let refused = refused.expect_err("one step").to_string();
    assert!(refused.contains("two steps"), "{refused}");
}

/// Panics in the second epoch of a recovery, as a killed process would stop there.
struct Dies {
    /// Recoveries until the one in which it does.
    left: AtomicUsize,
    /// Steps of it.
    done: AtomicUsize,
}

impl Dies {
    /// The first recovery is 1.
    fn in_recovery(which: usize) -> Dies {
        Dies { left: AtomicUsize::new(which), done: AtomicUsize::new(0) }
    }
}

impl engine::Progress for Dies {
    fn begin(&self, stage: &str, _total: u64, _unit: engine::Unit) {
        if stage == "recover" {
            self.left.fetch_sub(1, SeqCst);
        }
        self.done.store(0, SeqCst);
    }

    fn advance(&self, _amount: u64) {
        assert!(self.done.fetch_add(1, SeqCst) != 12 || self.left.load(SeqCst) > 0, "killed");
    }

    fn end(&self) {}
}
