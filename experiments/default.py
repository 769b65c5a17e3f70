"""Every knob, stated once. The other experiments state differences only."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the default configuration; the file beside a group says of its fields what a line cannot."""
    config = ConfigDict()
    config.seed = 0  # of everything random in a run

    config.search = vlga()

    config.space = ConfigDict()  # vlga_jax/genome/space.py
    config.space.activations = ("relu", "elu", "leaky_relu")  # also tanh, selu
    config.space.channels = (8, 16, 32, 64, 128, 256, 512)  # output channels of a convolution
    config.space.kernels = (1, 3, 5, 7, 9)  # pixels, odd
    config.space.batch_norm = (True, False)
    config.space.include_pool = (True, False)
    config.space.pool_types = ("max", "average")
    config.space.include_b = (True, False)  # whether a block has its second convolution, b
    config.space.include_skip = (True, False)
    config.space.dropout_rates = (0.0,)  # share of a block's outputs; one choice turns the gene off
    config.space.strides = (1,)  # of a block's first convolution, pixels, at most 4; one choice turns the gene off
    config.space.first_block_has_b = True  # it always has it, as in the sources; False lets include_b decide there too
    config.space.min_side = 1  # pixels; strides that would leave a map smaller are less, or 1
    config.space.pool_stride = 2  # pixels; 1 never shrinks the image, as in the report code
    config.space.head_pool = "average"  # or max, as in the paper's figures
    config.space.whitening = False  # of images, 2x2 pixels to their principal components; see docs/evidence/training.md

    config.fitness = ConfigDict()  # vlga_jax/fitness/evaluation.py
    config.fitness.epochs = 3
    config.fitness.batch_size = 256  # images
    config.fitness.optimizer = "adam"  # or sgd
    config.fitness.learning_rate = 1e-3
    config.fitness.schedule = "constant"  # or cosine
    config.fitness.warmup_epochs = 0.0
    config.fitness.weight_decay = 0.0
    config.fitness.label_smoothing = 0.0
    config.fitness.max_seconds = 0.0  # of training one network, 0 is no limit; makes results depend on the machine
    config.fitness.max_parameters = 0  # trainable values, 0 is no limit
    config.fitness.max_flops = 0  # operations of one image's forward pass, 0 is no limit
    config.fitness.max_block_flops = 0  # the same, of any one block
    config.fitness.num_train_examples = 0  # at most, a stratified part; 0 is all; the final takes all
    config.fitness.features = "cached"  # the frozen prefix's outputs once per phase; or recomputed with every batch
    config.fitness.ledger = ""  # another run's ledger.sqlite to take results from
    config.fitness.any_environment = False  # use results of another backend, device, version or XLA flags too
    config.fitness.compile_threads = 0  # programs compiled at a time, 0 chooses by the number of cores
    config.fitness.deterministic = True  # GPU kernels that give the same bits every time
    config.fitness.precision = "float32"  # or bfloat16; auto is bfloat16 on a GPU and on a CPU that multiplies it
    config.fitness.layers = "tuned"  # this project's convolutions and batch norm; or plain, those of XLA and Flax

    config.stopping = ConfigDict()  # vlga_jax/fitness/stopping.py; options of every strategy
    config.stopping.rungs = ()  # epochs after which only the better half of a generation goes on, as in 1,2
    config.stopping.reference_quantile = 0.0  # below it in the generation before, a network stops; 0 is never

    config.budget = ConfigDict()  # vlga_jax/fitness/generation.py; give search.winner=best_phase with it
    config.budget.epochs = 0  # of all networks of the search together, 0 is no limit
    config.budget.seconds = 0.0  # of all evaluations, likewise; results then depend on the machine

    config.final = ConfigDict()  # vlga_jax/run/finish.py
    config.final.epochs = 60  # at most
    config.final.patience = 15  # epochs without a better validation accuracy, 0 never stops early
    config.final.init = "searched"  # start from the searched weights; or scratch
    config.final.widen_to_flops = 0  # operations of one image's forward pass, 0 as found; needs init=scratch
    config.final.use_all_data = False  # train on the validation images too, for all epochs
    config.final.batch_size = 256  # images
    config.final.optimizer = "adam"  # or sgd
    config.final.learning_rate = 1e-3
    config.final.schedule = "cosine"  # or constant
    config.final.warmup_epochs = 2.0
    config.final.weight_decay = 1e-2  # decoupled, of kernels; times the learning rate each step
    config.final.label_smoothing = 0.1
    config.final.flip = True  # mirror colour images left to right
    config.final.crop_padding = 4  # pixels around colour images to crop from, 64 at most, 0 is no cropping
    config.final.cutout = 0  # pixels, side of a square made grey in each colour image; 0 is none
    config.final.ema_decay = 0.0  # of an average over all steps that becomes the network, as in 0.999; 0 is none
    config.final.clip_norm = 0.0  # of all gradients together; larger ones are scaled down to it, 0 is never
    config.final.test_flip = False  # test colour images mirrored, too; a result of its own beside test_accuracy
    config.final.precision = "float32"  # or bfloat16, auto

    config.data = ConfigDict()  # vlga_jax/training/data
    config.data.name = "cifar10"  # digits, npz, folder, or any tensorflow-datasets image classification set
    config.data.dir = ""  # where it lies; empty is the library's own place
    config.data.num_train_examples = 0  # the first so many, validation included; 0 is all
    config.data.num_test_examples = 0  # 0 is all
    config.data.validation_fraction = 0.1  # of the training examples, held out
    config.data.split_seed = 0  # of the stratified split; not the run's seed, so that runs compare
    config.data.image_size = 0  # pixels square to resize to, 0 is as stored
    config.data.cache_dir = ""  # of decoded images; empty is the user's cache

    config.tracking = ConfigDict()  # vlga_jax/run/tracking.py
    config.tracking.progress = "auto"  # rich on a terminal, plain lines elsewhere; or rich, plain, none
    config.tracking.wandb = "disabled"  # or offline, online
    config.tracking.wandb_project = "vlga_jax"
    config.tracking.wandb_timeout_seconds = 10.0  # that wandb may hold up a run in all
    return config


def vlga() -> ConfigDict:
    """Returns the variable length genetic algorithm's knobs; vlga_jax/evolution/vlga.py."""
    search = ConfigDict()
    search.strategy = "vlga"
    search.population_size = 10  # individuals a generation
    search.num_generations = 3  # a phase, the initial population counted
    search.num_phases = 5  # at most; each after the first appends a block
    search.stop_rule = False  # end once a phase's best falls more than stop_drop below the best so far
    search.stop_drop = 0.01  # accuracy
    search.num_elites = 1  # fittest that survive unmutated; 0 reproduces the sources
    search.survival_rate = 0.5  # share that survives for its fitness
    search.unfit_survival_prob = 0.2  # chance of each of the others
    search.mutation_rate = 0.1  # chance of a survivor to have one gene redrawn
    search.child_mutation_rate = 0.0  # chance of a child; 0 reproduces the sources
    search.crossover = "uniform"  # or single_point
    search.parent_selection = "softmax"  # fitness-weighted; or uniform
    search.parent_temperature = 0.1  # accuracy; of the softmax
    search.winner = "last_phase"  # whose fittest gets the final training; or best_phase, the fittest of all
    search.winner_tolerance = 0.0  # accuracy; with best_phase: the first phase at most this below the best one wins
    search.weight_transfer = True  # inherited blocks are frozen; False trains every network whole, from fresh weights
    search.fine_tuning_rate = 0.0  # of the learning rate; a phase's best trains on, whole, at its end; 0 is never
    return search


def classical() -> ConfigDict:
    """Returns the classical genetic algorithm's knobs; vlga_jax/evolution/classical.py."""
    search = ConfigDict()
    search.strategy = "classical"
    search.num_convolutions = 3  # of every network
    search.population_size = 10
    search.num_generations = 10  # the initial population counted
    search.num_elites = 1  # the rest as for vlga
    search.survival_rate = 0.5
    search.unfit_survival_prob = 0.2
    search.mutation_rate = 0.1
    search.child_mutation_rate = 0.0
    search.crossover = "uniform"
    search.parent_selection = "softmax"
    search.parent_temperature = 0.1
    return search


def random_search() -> ConfigDict:
    """Returns random search's knobs; vlga_jax/evolution/random_search.py."""
    search = ConfigDict()
    search.strategy = "random_search"
    search.population_size = 10  # networks asked for at a time
    search.num_generations = 10  # how often
    search.min_convolutions = 2  # of a network
    search.max_convolutions = 10
    return search


def aging() -> ConfigDict:
    """Returns the knobs of regularized (aging) evolution; vlga_jax/evolution/aging.py."""
    search = ConfigDict()
    search.strategy = "aging"
    search.num_convolutions = 6  # of every network
    search.population_size = 20
    search.sample_size = 5  # of a tournament
    search.num_children = 5  # trained between two changes of the population
    search.num_cycles = 16  # of num_children each, after the initial population
    return search


def hill_climbing() -> ConfigDict:
    """Returns hill climbing's knobs; vlga_jax/evolution/hill_climbing.py."""
    search = ConfigDict()
    search.strategy = "hill_climbing"
    search.num_convolutions = 6  # of every network
    search.num_neighbours = 5  # single-gene mutants tried before each step
    search.num_steps = 20
    return search


def compare() -> ConfigDict:
    """Returns the knobs of a comparison; vlga_jax/run/comparing.py."""
    config = ConfigDict()
    config.budget_epochs = 0  # of training, for each search; 0 where the budget is in seconds
    config.budget_seconds = 0.0  # of evaluations, likewise
    config.only = ()  # strategies that run, the reference among them; empty is all
    config.reference = "vlga"  # what the others are compared with
    config.crossovers = ()  # strategies in the report's two figures
    config.num_seeds = 20  # of every strategy
    config.first_seed = 0
    return config


def large_scale() -> ConfigDict:
    """Returns large-scale evolution's knobs; vlga_jax/evolution/large_scale.py."""
    search = ConfigDict()
    search.strategy = "large_scale"
    search.population_size = 20
    search.num_children = 5  # trained between two changes of the population, each of another pair
    search.num_cycles = 16  # of num_children each, after the initial population
    search.max_convolutions = 10  # of a network; the first have none
    return search


def ant_colony() -> ConfigDict:
    """Returns ant colony search's knobs; vlga_jax/evolution/ant_colony.py."""
    search = ConfigDict()
    search.strategy = "ant_colony"
    search.num_ants = 8  # networks an iteration
    search.max_depth = 5  # blocks; iteration i, from 0, has networks of i + 1 blocks until then
    search.num_iterations = 6
    search.greediness = 0.5  # chance to take an edge with the most pheromone, not one drawn in proportion
    search.pheromone_start = 0.1  # of every edge, accuracy
    search.pheromone_decay = 0.1  # of a walked edge, back to the start
    search.pheromone_evaporation = 0.1  # of the best path, towards its fitness
    return search
