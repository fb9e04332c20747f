import irec_jax as irec

experiment = irec.Experiment(
    data=irec.DataConfig(simulate=irec.SimulateConfig(users=1_000, items=100)),
    tokens=irec.TokensConfig(vocabulary=1024, source_length=64, target_length=24),
    model=irec.T5Config(width=32, head_dim=8, mlp_dim=64, encoder_layers=1),
    optimizer=irec.OptimizerConfig(peak=3e-2, schedule="cosine", warmup=50),
    train=irec.TrainConfig(steps=800, batch_size=32, log_every=100),
)
