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
    assert!(refused(&student).contains("no labels"));
    student.teacher = Some("teacher.onnx".into());
    if let Some(distill) = &mut student.training.distill {
        distill.features = vec!["scores".into()];
    }
    assert!(refused(&student).contains("attention map"));
    student.data.train = student.data.valid.clone();
    student.training.batch = 61;
    student.training.distill = None;
    assert!(refused(&student).contains("do not fill a batch"));
    if let Some(network) = &mut student.network {
        network.classes = 2;
    }
    assert!(refused(&student).contains("label 2"));
}
